"""Published ImageNet weights: finds them, converts them to our names and layouts, checks and loads them."""
