"""From published ImageNet weights to the file training starts from: read, rename, check, write."""
