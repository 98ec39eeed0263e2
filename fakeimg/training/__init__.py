"""How weights change: program builds a run from its configuration, step runs on one device, loop drives it."""
