"""Tokenizers, image processors and processors with transformers' interface."""
