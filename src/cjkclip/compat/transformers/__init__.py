"""transformers' names."""
