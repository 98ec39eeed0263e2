"""How fast each part of a run is, against the limit of the machine it runs on."""
