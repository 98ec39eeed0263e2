"""Published ImageNet weights: found, converted to our names and layouts, checked, and loaded into a network."""
