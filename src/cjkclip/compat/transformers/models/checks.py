"""Tensors that a caller hands to a model, checked before a tower sees them. n items, L tokens, S pixels.

Refuses: what is missing, of another shape or type, outside a table.
"""

import torch
from torch import Tensor

from cjkclip.errors import InputError


def token_ids(ids: Tensor | None, vocab: int, context: int) -> Tensor:
    """Ids as (n, L). Raises InputError."""
    checked = whole(ids, "input_ids", vocab)
    checked = checked if checked.ndim else checked[None]
    length(checked.shape[-1], context)
    return checked.reshape(-1, checked.shape[-1])


def length(tokens: int, context: int) -> None:
    """Raises InputError for texts longer than the position table, or empty ones."""
    if not 0 < tokens <= context:
        raise InputError(
            f"got texts of {tokens} tokens, expected 1 to {context} (max_position_embeddings): truncate them"
        )


def whole(numbers: Tensor | None, name: str, limit: int) -> Tensor:
    """A tensor of whole numbers from 0 to below `limit`. Raises InputError."""
    if not isinstance(numbers, Tensor):
        raise InputError(f"{name} is missing: expected a tensor, got {type(numbers).__name__}")
    if numbers.is_floating_point() or numbers.dtype == torch.bool or numbers.is_complex():
        raise InputError(f"{name} is of type {numbers.dtype}, expected whole numbers")
    if numbers.device.type == "cpu" and numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) < limit:
        got = f"{int(numbers.min())} to {int(numbers.max())}"
        raise InputError(f"{name} runs from {got}, expected 0 to {limit - 1}: is it from another model's tokenizer?")
    return numbers.long()


def rows(numbers: Tensor | None, name: str, limit: int, like: Tensor) -> Tensor | None:
    """Positions or token types for texts of (n, L); a single row serves all. None stays None. Raises InputError."""
    if numbers is None:
        return None
    found = whole(numbers, name, limit)
    found = found[None] if found.ndim == 1 else found
    if found.ndim != 2 or found.shape[1] != like.shape[1] or found.shape[0] not in (1, like.shape[0]):
        raise InputError(f"{name} has shape {tuple(numbers.shape)}, expected {tuple(like.shape[:2])}")
    return found


def kept(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """A mask (n, L), 1 where a token is kept; None where all are. Raises InputError."""
    if mask is None:
        return None
    if not isinstance(mask, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"attention_mask is a {type(mask).__name__}, expected a tensor")
    mask = mask.view(-1, mask.shape[-1]) if mask.ndim == 1 else mask
    if mask.shape != like.shape[:2]:
        raise InputError(f"attention_mask has shape {tuple(mask.shape)}, expected {tuple(like.shape[:2])}")
    return None if bool(mask.bool().all()) else mask.long()


def pictures(pixels: Tensor | None, size: int, like: Tensor, stretch: bool) -> Tensor:
    """Pixels (n, 3, S, S) in the type of the weights. Raises InputError."""
    if not isinstance(pixels, Tensor):
        raise InputError(f"pixel_values is missing: expected a tensor, got {type(pixels).__name__}")
    if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
        raise InputError(
            f"pixel_values has shape {tuple(pixels.shape)} and type {pixels.dtype}, expected (n, 3, {size}, {size}) of "
            "floats: prepare pictures with the model's processor"
        )
    if pixels.shape[2:] != (size, size) and not stretch:
        raise InputError(
            f"pixel_values are {pixels.shape[2]} x {pixels.shape[3]}, the model reads {size} x {size}: resize them, or "
            "pass interpolate_pos_encoding=True"
        )
    return pixels.to(like.dtype)


def vectors(embeds: Tensor | None, width: int, context: int) -> Tensor:
    """Vectors of tokens (n, L, width). Raises InputError."""
    if not isinstance(embeds, Tensor) or embeds.ndim != 3 or embeds.shape[2] != width:
        got = tuple(embeds.shape) if isinstance(embeds, Tensor) else type(embeds).__name__
        raise InputError(f"inputs_embeds is {got}, expected (n, L, {width})")
    length(embeds.shape[1], context)
    return embeds
