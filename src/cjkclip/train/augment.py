"""Augment image batches at random, in torch. B images, C = 3 or 4 channels (RGBA, straight alpha), S pixels.

An image is warped, recoloured, composited on a background, blurred or sharpened, made noisy and partly covered.
All random numbers come from one generator, so a seed gives the same pixels. Values stay in 0..1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from cjkclip.arrays import Bool, Float

NOISES = 32  # noise images per batch, shared if the batch is larger


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Strength of each change; 0 disables it, and `*_chance` is the share of images that it applies to.

    The defaults are weak and suit photographs; recipes state their own.
    """

    scale: float = 0.15  # zoom by a factor of up to e^scale, both ways
    stretch: float = 0.05  # the same for the ratio of width to height
    rotate: float = 5.0  # degrees, both ways
    shear: float = 0.0
    shift: float = 0.05  # of the side, both ways
    perspective: float = 0.0
    bend: float = 0.0  # smooth local displacement, of the side
    light: float = 0.2  # brightness and contrast
    saturate: float = 0.2
    hue: float = 10.0  # degrees, both ways
    mix_chance: float = 0.0  # channels replaced by random mixtures of each other
    grey_chance: float = 0.05
    invert_chance: float = 0.0
    posterise_chance: float = 0.0
    redraw_chance: float = 0.0  # another drawing style: thin dark or bright parts removed, or dark outlines added
    ground_chance: float = 0.0  # transparent images: a random background instead of white
    blur: float = 0.3  # blend with a blurred image; sharpening is up to half as strong
    noise: float = 0.02
    erase_chance: float = 0.1


def augment(
    pictures: Float[Tensor, "B C H W"], size: int, how: Augment, generator: Generator, mirror: Bool[Tensor, "B"]
) -> Float[Tensor, "B 3 S S"]:
    """Return augmented images of `size`; each image marked in `mirror` is flipped left to right with chance 0.5."""
    rgb, alpha = _split(warp(pictures, size, how, generator, mirror))
    rgb = recolour(rgb, how, generator)
    rgb = redraw(_lay(rgb, alpha, how, generator), how, generator)
    return finish(rgb, how, generator).clamp(0, 1)


def plain(pictures: Float[Tensor, "B C S S"]) -> Float[Tensor, "B 3 S S"]:
    """Return the images unchanged, with transparent ones on white."""
    if pictures.shape[1] == 3:
        return pictures
    rgb, alpha = pictures[:, :3], pictures[:, 3:]
    return rgb * alpha + (1 - alpha)


def _uniform(n: int, reach: float, generator: Generator) -> Tensor:
    """Return n random numbers in -reach..reach."""
    return (torch.rand(n, generator=generator) * 2 - 1) * reach


def _chance(n: int, chance: float, generator: Generator) -> Tensor:
    return torch.rand(n, generator=generator) < chance


def warp(pictures: Tensor, size: int, how: Augment, generator: Generator, mirror: Tensor) -> Tensor:
    """Apply affine, perspective and smooth local warps in one resampling; colour is premultiplied by alpha."""
    n = len(pictures)
    if pictures.shape[1] == 4:
        pictures = torch.cat([pictures[:, :3] * pictures[:, 3:], pictures[:, 3:]], dim=1)
    angle = _uniform(n, math.radians(how.rotate), generator)
    zoom, ratio = _uniform(n, how.scale, generator), _uniform(n, how.stretch, generator)
    x_scale, y_scale = torch.exp(zoom + ratio), torch.exp(zoom - ratio)
    x_scale = torch.where(mirror & _chance(n, 0.5, generator), -x_scale, x_scale)
    cos, sin = torch.cos(angle), torch.sin(angle)
    x_shear, y_shear = _uniform(n, how.shear, generator), _uniform(n, how.shear, generator)
    matrix = torch.zeros(n, 3, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = cos * x_scale, (x_shear - sin) * y_scale
    matrix[:, 1, 0], matrix[:, 1, 1] = (sin + y_shear) * x_scale, cos * y_scale
    for axis in (0, 1):
        matrix[:, axis, 2] = _uniform(n, 2 * how.shift, generator)
        matrix[:, 2, axis] = _uniform(n, how.perspective, generator)
    matrix[:, 2, 2] = 1
    line = (torch.arange(size) * 2 + 1) / size - 1
    points = torch.stack([line.repeat(size), line.repeat_interleave(size), torch.ones(size * size)])
    points = matrix @ points
    grid = (points[:, :2] / points[:, 2:]).reshape(n, 2, size, size)
    if how.bend:
        coarse = torch.randn(n, 2, 4, 4, generator=generator) * how.bend
        grid = grid + F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    padding = "zeros" if pictures.shape[1] == 4 else "border"
    return F.grid_sample(pictures, grid.permute(0, 2, 3, 1), mode="bilinear", padding_mode=padding, align_corners=False)


def _split(pictures: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return premultiplied colour, and alpha or None for opaque images."""
    return (pictures[:, :3], pictures[:, 3:]) if pictures.shape[1] == 4 else (pictures, None)


def recolour(rgb: Tensor, how: Augment, generator: Generator) -> Tensor:
    """Apply a random linear map of the three channels to each image; 0 stays 0."""
    n = len(rgb)
    grey = torch.tensor([0.299, 0.587, 0.114]).expand(3, 3)
    eye = torch.eye(3)
    saturation = 1 + _uniform(n, how.saturate, generator)
    saturation[_chance(n, how.grey_chance, generator)] = 0
    matrix = grey + saturation[:, None, None] * (eye - grey)
    matrix = matrix @ _hue(_uniform(n, math.radians(how.hue), generator))
    mixed = _chance(n, how.mix_chance, generator)
    mixture = torch.rand(n, 3, 3, generator=generator) ** 2 + torch.randn(n, 3, 3, generator=generator) * 0.15
    mixture = mixture / mixture.sum(dim=2, keepdim=True).clamp(min=0.5)
    matrix = torch.where(mixed[:, None, None], mixture, matrix)
    matrix = matrix * (1 + _uniform(n, how.light, generator))[:, None, None]
    return (matrix @ rgb.flatten(2)).reshape(rgb.shape)


def _hue(angle: Tensor) -> Tensor:
    """Return rotations of colour about the grey axis, (n, 3, 3)."""
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    third = torch.full((3, 3), 1 / 3)
    turn = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return cos * torch.eye(3) + (1 - cos) * third + sin * turn


def _lay(rgb: Tensor, alpha: Tensor | None, how: Augment, generator: Generator) -> Tensor:
    """Composite premultiplied colour on white, or on a random plain or graded background."""
    n = len(rgb)
    if alpha is not None:
        chosen = _chance(n, how.ground_chance, generator)
        ground = _ground(int(chosen.sum()), rgb.shape[-1], generator)
        left = 1 - alpha
        rgb = rgb + left
        rgb[chosen] += left[chosen] * (ground - 1)
    inverted = _chance(n, how.invert_chance, generator)
    rgb[inverted] = 1 - rgb[inverted]
    return rgb


def _ground(n: int, size: int, generator: Generator) -> Tensor:
    """Return backgrounds (n, 3, size, size): half are plain, half are graded between four corner colours."""
    ends = torch.rand(n, 3, 2, 2, generator=generator)
    flat = ends.mean(dim=(2, 3), keepdim=True)
    ends = flat + (ends - flat) * _chance(n, 0.5, generator)[:, None, None, None]
    return F.interpolate(ends, size=(size, size), mode="bilinear", align_corners=True)


def redraw(rgb: Tensor, how: Augment, generator: Generator) -> Tensor:
    """Close thin dark parts, open thin bright parts, or draw outlines where the colour changes."""
    chosen = _chance(len(rgb), how.redraw_chance, generator)
    if not chosen.any():
        return rgb
    part = rgb[chosen]
    wide, thin = _dilate(part), -_dilate(-part)
    closed, opened = -_dilate(-wide), _dilate(thin)
    edge = (wide - thin).amax(dim=1, keepdim=True).clamp_(0, 1)
    strength = torch.rand(len(part), 1, 1, 1, generator=generator) * 0.8
    outlined = part * (1 - strength * edge)
    which = torch.randint(4, (len(part), 1, 1, 1), generator=generator)
    flat = -_dilate(-_dilate(opened))  # opened, then closed
    rgb = rgb.clone()
    for number, variant in enumerate((closed, opened, flat, outlined)):
        part = torch.where(which == number, variant, part)
    rgb[chosen] = part
    return rgb


def _dilate(rgb: Tensor) -> Tensor:
    """Return the maximum of 3 x 3 neighbours, by shifts: max_pool2d takes twenty times as long on a CPU."""
    padded = F.pad(rgb, (1, 1, 1, 1), mode="replicate")
    across = torch.maximum(torch.maximum(padded[..., :-2], padded[..., 1:-1]), padded[..., 2:])
    return torch.maximum(torch.maximum(across[:, :, :-2], across[:, :, 1:-1]), across[:, :, 2:])


def finish(rgb: Tensor, how: Augment, generator: Generator) -> Tensor:
    """Change contrast, reduce grey levels, blur or sharpen, add noise and cover one rectangle."""
    n = len(rgb)
    contrast = 1 + _uniform(n, how.light, generator)[:, None, None, None]
    rgb = ((rgb - 0.5).mul_(contrast) + 0.5).clamp_(0, 1)
    coarse = _chance(n, how.posterise_chance, generator)
    if coarse.any():
        levels = torch.randint(3, 8, (n, 1, 1, 1), generator=generator)[coarse]
        rgb[coarse] = torch.round(rgb[coarse] * levels) / levels
    blurred = F.avg_pool2d(F.pad(rgb, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    towards = (torch.rand(n, generator=generator) * 1.5 - 0.5)[:, None, None, None] * how.blur
    rgb = rgb + towards * (blurred - rgb)
    strength = torch.rand(n, 1, 1, 1, generator=generator) * how.noise
    noise = torch.randn(NOISES, *rgb.shape[1:], generator=generator)  # drawing a new value for every pixel is slow
    rgb = rgb + noise[torch.randint(NOISES, (n,), generator=generator)] * strength
    return _erase(rgb, how, generator)


def _erase(rgb: Tensor, how: Augment, generator: Generator) -> Tensor:
    n, size = len(rgb), rgb.shape[-1]
    half = torch.rand(n, 2, generator=generator) * 0.17 + 0.05
    centre = torch.rand(n, 2, generator=generator)
    line = (torch.arange(size) + 0.5) / size
    inside = (line - centre[:, :, None]).abs() < half[:, :, None]  # n 2 S
    covered = inside[:, 0, :, None] & inside[:, 1, None, :]
    covered &= _chance(n, how.erase_chance, generator)[:, None, None]
    colour = torch.rand(n, 3, 1, 1, generator=generator)
    return torch.where(covered[:, None], colour, rgb)
