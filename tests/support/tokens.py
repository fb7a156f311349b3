"""Texts in four languages with the token ids of the original tokenizers (golden/tokens), and helpers for them."""

import json
from collections.abc import Callable
from typing import Any

from families import GOLDEN

FOLDER = GOLDEN / "tokens"
RECORD: dict[str, Any] = json.loads((FOLDER / "tokens.json").read_text("utf-8"))
STRINGS: list[str] = RECORD["strings"]


def rows(tokenizer: Callable[[list[str]], Any], texts: list[str]) -> list[list[int]]:
    """Return the token ids of each text without padding."""
    tokens = tokenizer(texts)
    return [ids[keep == 1].tolist() for ids, keep in zip(tokens.ids, tokens.mask, strict=True)]


def set_in(*keys: str, to: Any) -> Callable[[dict[str, Any]], None]:
    """Return a function that changes one place of a JSON object."""

    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return change
