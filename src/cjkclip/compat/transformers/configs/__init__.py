"""Configurations with transformers' interface."""
