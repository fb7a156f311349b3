"""transformers' tokenizers, image processors and processors."""
