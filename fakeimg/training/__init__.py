"""How weights change: setup builds a run from its configuration, step is what one device does, loop drives it."""
