"""Many trainings of one recipe, ranked by validation."""
