"""Render icons from SVG text to uint8 RGBA pixels with resvg.

Each size is rendered from the SVG; a small image is never a resized large one.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import resvg_py
from jaxtyping import UInt8
from PIL import Image
from tools.moji_data.designs import Design, read_icons, svg
from tools.moji_data.packages import CACHE

Rgba = UInt8[np.ndarray, "S S 4"]


def render_svg(text: str, size: int) -> Rgba:
    """Return one square SVG as `size` x `size` pixels; alpha is not premultiplied."""
    png = resvg_py.svg_to_bytes(svg_string=text, width=size, height=size, skip_system_fonts=True)
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    if pixels.shape != (size, size, 4):
        raise ValueError(f"resvg returned pixels of shape {pixels.shape}, expected {(size, size, 4)}")
    return pixels


def render_design(design: Design, icons_of: Mapping[str, str], size: int) -> dict[str, Rgba]:
    """Return {code points: pixels} of a design at one size. `icons_of` is {code points: icon name}.

    Raises ValueError for an icon that resvg renders as nothing.
    """
    icons = read_icons(design)
    drawn = {cp: render_svg(svg(icons, icon), size) for cp, icon in sorted(icons_of.items())}
    empty = [cp for cp, pixels in drawn.items() if not pixels[..., 3].any()]
    if empty:
        raise ValueError(f"{design.name}: these emoji are empty after rendering: {empty}")
    return drawn


def on_white(pixels: Rgba) -> Image.Image:
    """Return an image on white, in RGB."""
    picture = Image.fromarray(pixels)
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def cache_file(design: str, size: int) -> Path:
    """Return the file of `store` for a design at one size."""
    return CACHE / "render" / f"{design}-{size}.npz"


def store(design: str, size: int, drawn: Mapping[str, Rgba]) -> None:
    """Store a rendered design: `names` (n,) code points, `pixels` (n, S, S, 4) uint8."""
    file = cache_file(design, size)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"partial-{file.name}")
    np.savez(partial, names=np.array(list(drawn)), pixels=np.stack(list(drawn.values())))
    partial.replace(file)


def stored(design: str, size: int) -> dict[str, Rgba]:
    """Return the result of `store`: {code points: pixels}."""
    with np.load(cache_file(design, size)) as file:
        return dict(zip(file["names"].tolist(), file["pixels"], strict=True))
