"""Recipes of models that this project trains, one file each, as data."""
