"""`cjkclip train`: go on training a model on your own pairs of picture and text."""

from cjkclip.cli.options import Json


def train(*, json: Json = False) -> None:
    """Train."""
