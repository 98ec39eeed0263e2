"""What the score of an image rests on: maps that add up to it, and checks of what such maps are worth."""
