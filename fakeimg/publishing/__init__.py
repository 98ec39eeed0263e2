"""A trained detector made ready for others, and sent to the Hugging Face Hub."""
