"""transformers' configurations."""
