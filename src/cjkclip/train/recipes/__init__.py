"""Recipes of the models that this project trains, one file each, as data."""
