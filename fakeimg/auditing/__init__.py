"""What an audit measures: facts of each picture, copies among pictures, and how well facts tell groups apart."""
