"""Interfaces of other CLIP packages on cjkclip's models: published code runs with only its import line changed."""
