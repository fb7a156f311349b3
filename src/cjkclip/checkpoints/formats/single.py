"""transformers' single towers CLIPTextModel and CLIPVisionModel, with or without projection and prefix of names."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cjkclip.checkpoints.formats import Checkpoint, Format, Parts
from cjkclip.checkpoints.formats.transformers import (
    IDS,
    TEXT_PROJ,
    VISION_PROJ,
    bpe_tokenizer,
    config_json,
    dump,
    image_json,
    read_image,
    read_text,
    read_vision,
    text_json,
    text_rows,
    vision_json,
    vision_rows,
)
from cjkclip.checkpoints.layouts import Layout, Row
from cjkclip.config import Text, Vit
from cjkclip.errors import LayoutError
from cjkclip.text.bpe import Bpe


def _read_single(checkpoint: Checkpoint) -> dict[str, Any]:
    """Read a single tower, with or without its projection."""
    whole, names = config_json(checkpoint), checkpoint.tensors
    vision = text = None
    if any("patch_embedding" in name for name in names):
        tower = vision = read_vision(whole) | {"project": "visual_projection.weight" in names}
    else:
        tower = text = read_text(whole) | {"project": "text_projection.weight" in names}
    embed = whole.get("projection_dim", 512) if tower["project"] else tower["width"]
    image = None if vision is None else read_image(checkpoint)
    return {"vision": vision, "text": text, "image": image, "embed": embed, "scale": None}


def _write_single(kind: str, parts: Parts, folder: Path) -> None:
    config = parts.config
    if isinstance(config.vision, Vit) and config.text is None:
        whole = vision_json(config.vision, config.embed)
    elif isinstance(config.text, Text) and config.vision is None:
        whole = text_json(config.text, config.embed, parts.tokenizer)
    else:
        raise LayoutError(
            f"transformers' {kind} contains one tower; this model has two, or one of another kind. Use layout 'cjkclip'"
        )
    dump(folder / "config.json", whole | {"architectures": [kind]})
    if config.image is not None:
        dump(folder / "preprocessor_config.json", image_json(config.image))
    if isinstance(parts.tokenizer, Bpe):
        parts.tokenizer.save_transformers(folder)


def _single(name: str, kind: str, rows: tuple[Row, ...], mark: str) -> Format:
    return Format(
        layout=Layout(name=name, rows=rows, marks=(mark,), harmless=IDS),
        read=_read_single,
        tokenizer=bpe_tokenizer,
        write=partial(_write_single, kind),
        model_types=("clip_text_model", "clip_vision_model", "chinese_clip_vision_model", "clip", None),
    )


def _singles() -> Iterator[Format]:
    """Yield each tower with a projection, without one, and without the prefix of names, as version 5 writes it."""
    towers = (
        ("text", "CLIPText", text_rows, TEXT_PROJ, "final_layer_norm.weight"),
        ("vision", "CLIPVision", vision_rows, VISION_PROJ, "pre_layrnorm.weight"),
    )
    for part, kind, rows, projection, mark in towers:
        prefix, whole = f"{part}_model.", f"{kind}Model"
        projected = (*rows(prefix), projection)
        yield _single(f"transformers_{part}_projection", f"{whole}WithProjection", projected, projection.published)
        yield _single(f"transformers_{part}", whole, rows(prefix), prefix + mark)
        yield _single(f"transformers_{part}_bare", whole, rows(""), mark)


SINGLE_TOWERS = tuple(_singles())
