"""Interfaces of other CLIP packages on cjkclip's models: published code runs after a change of its import line."""
