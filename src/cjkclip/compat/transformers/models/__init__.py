"""transformers' models, over the towers of engines/torch."""
