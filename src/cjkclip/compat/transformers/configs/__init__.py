"""Configuration classes with transformers' interface."""
