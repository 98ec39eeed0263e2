"""How good a detector is: scoring turns a split into predictions, metrics and report turn those into answers."""
