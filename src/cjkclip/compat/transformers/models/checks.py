"""Check the tensors of a model's call before a tower reads them. n items, L tokens, S pixels.

Every function raises InputError if a tensor is missing, has a wrong shape or type, or has an index outside a table.
"""

import torch
from torch import Tensor

from cjkclip.engines.torch.compiling import traced
from cjkclip.errors import InputError


def token_ids(ids: Tensor | None, vocab: int, context: int) -> Tensor:
    """Return ids as (n, L). Raises InputError."""
    table = whole(ids, "input_ids", vocab)
    table = table if table.ndim else table[None]
    length(table.shape[-1], context)
    return table.reshape(-1, table.shape[-1])


def length(tokens: int, context: int) -> None:
    """Raise InputError for empty texts and for texts longer than the position table."""
    if not 0 < tokens <= context:
        raise InputError(
            f"got texts of {tokens} tokens, expected 1 to {context} (max_position_embeddings): "
            f"truncate them with tokenizer(texts, truncation=True, max_length={context})"
        )


def whole(numbers: Tensor | None, name: str, limit: int) -> Tensor:
    """Return a tensor of whole numbers from 0 to `limit` - 1. Raises InputError."""
    if not isinstance(numbers, Tensor):
        raise InputError(f"{name} is missing: got {type(numbers).__name__}, expected a tensor; pass {name}=")
    if numbers.is_floating_point() or numbers.dtype == torch.bool or numbers.is_complex():
        raise InputError(f"{name} is of type {numbers.dtype}, expected whole numbers: pass {name}.long()")
    read = numbers.device.type == "cpu" and not traced() and numbers.numel()
    if read and not 0 <= int(numbers.min()) <= int(numbers.max()) < limit:
        extent = f"{int(numbers.min())} to {int(numbers.max())}"
        raise InputError(
            f"{name} runs from {extent}, expected 0 to {limit - 1}: use this model's tokenizer, "
            "AutoTokenizer.from_pretrained(name)"
        )
    return numbers.long()


def rows(numbers: Tensor | None, name: str, limit: int, like: Tensor) -> Tensor | None:
    """Return positions or token types for texts (n, L), or None; one row is used for all. Raises InputError."""
    if numbers is None:
        return None
    table = whole(numbers, name, limit)
    table = table[None] if table.ndim == 1 else table
    if table.ndim != 2 or table.shape[1] != like.shape[1] or table.shape[0] not in (1, like.shape[0]):
        expected = f"{tuple(like.shape[:2])} as input_ids"
        raise InputError(f"{name} has shape {tuple(numbers.shape)}, expected {expected}: leave it out for the default")
    return table


def token_mask(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """Return a mask (n, L), 1 for a token and 0 for padding; None if there is no padding. Raises InputError."""
    if mask is None:
        return None
    if not isinstance(mask, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"attention_mask is a {type(mask).__name__}, expected a tensor: torch.tensor(attention_mask)")
    mask = mask.view(-1, mask.shape[-1]) if mask.ndim == 1 else mask
    if mask.shape != like.shape[:2]:
        raise InputError(
            f"attention_mask has shape {tuple(mask.shape)}, expected {tuple(like.shape[:2])} as input_ids: "
            "pass both from one call of the tokenizer"
        )
    return None if not traced() and bool(mask.bool().all()) else mask.long()


def pictures(pixels: Tensor | None, size: int, like: Tensor, stretch: bool) -> Tensor:
    """Return pixels (n, 3, S, S) in the type of the weights. Raises InputError."""
    if not isinstance(pixels, Tensor):
        raise InputError(f"pixel_values is missing: got {type(pixels).__name__}, expected a tensor; pass pixel_values=")
    if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
        raise InputError(
            f"pixel_values has shape {tuple(pixels.shape)} and type {pixels.dtype}, expected (n, 3, {size}, {size}) of "
            "floats: prepare images with processor(images=images, return_tensors='pt')"
        )
    if pixels.shape[2:] != (size, size) and not stretch:
        raise InputError(
            f"pixel_values are {pixels.shape[2]} x {pixels.shape[3]}, expected {size} x {size}: resize them, or "
            "pass interpolate_pos_encoding=True"
        )
    return pixels.to(like.dtype)


def vectors(embeds: Tensor | None, width: int, context: int) -> Tensor:
    """Return vectors of tokens (n, L, width). Raises InputError."""
    if not isinstance(embeds, Tensor) or embeds.ndim != 3 or embeds.shape[2] != width:
        value = tuple(embeds.shape) if isinstance(embeds, Tensor) else type(embeds).__name__
        raise InputError(f"inputs_embeds is {value}, expected a tensor (n, L, {width}); or pass input_ids=")
    length(embeds.shape[1], context)
    return embeds
