"""Images of any known layout to a prepared set of ArrayRecord shards."""
