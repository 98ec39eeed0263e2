"""What an audit measures: facts of each image, copies among images, and how well facts tell groups apart."""
