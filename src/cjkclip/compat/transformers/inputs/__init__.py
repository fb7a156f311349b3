"""Tokenizer, image processor and processor classes with transformers' interface."""
