"""What happens to images on the device: flips, mixing, and the degradations that images meet in the wild."""
