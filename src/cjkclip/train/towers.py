"""Convert a loaded model to torch towers, resize them, average them, and write them to a directory."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from cjkclip.checkpoints import Found, saving
from cjkclip.checkpoints.families import Family, Release
from cjkclip.checkpoints.families.moji import FAMILY
from cjkclip.clip import Clip
from cjkclip.config import ResNet
from cjkclip.engines.torch import tensors
from cjkclip.engines.torch.towers import Towers, build
from cjkclip.errors import InputError
from cjkclip.machine.mapped import files, steady
from cjkclip.parameters import shapes
from cjkclip.text import Tokenizer


def towers_of(clip: Clip) -> Towers:
    """Return a loaded model as torch modules with their own float32 weights."""
    names = shapes(clip.config)
    params = {name: array for name, array in clip.params.items() if name in names}
    with steady(files(params.values())):
        return build(clip.config, tensors(params))


def write_model(
    towers: Towers,
    tokenizer: Tokenizer,
    out: str | Path,
    *,
    owner: Family = FAMILY,
    release: Release | None = None,
    half: bool = False,
) -> Path:
    """Write towers as a directory that `cjkclip.load` reads, and return its path. Raises the errors of `Clip.save`.

    half: write float16, except batch statistics and scale.
    """
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in towers.state_dict().items()}
    if half:
        exact = ("running_mean", "running_var", "num_batches_tracked", "logit_scale")
        arrays = {n: a if n.endswith(exact) else a.astype(np.float16) for n, a in arrays.items()}
    parts = Found(
        config=towers.config,
        params=arrays,
        tokenizer=tokenizer,
        family=owner,
        release=release,
    )
    return saving.write(parts, Path(out), "cjkclip")


def grown(towers: Towers, size: int) -> Towers:
    """Return the same ResNet towers for another image size: the position table is interpolated.

    Raises InputError for another kind of image tower, or a size that is not a multiple of 32.
    """
    config = towers.config
    if not isinstance(config.vision, ResNet) or config.image is None or size % 32:
        raise InputError(
            f"grown: got size {size}, expected a multiple of 32, for a ResNet image tower with preprocessing"
        )
    state = dict(towers.state_dict())
    table = state["vision.pool.position.weight"]
    old, new = config.vision.image_size // 32, size // 32
    grid = table[1:].T.unflatten(1, (old, old))[None]
    grid = F.interpolate(grid, size=(new, new), mode="bilinear", align_corners=False)[0].flatten(1).T
    state["vision.pool.position.weight"] = torch.cat([table[:1], grid])
    resized = replace(config, vision=replace(config.vision, image_size=size), image=replace(config.image, size=size))
    return build(resized, {name: tensor.clone() for name, tensor in state.items()})


def mean(towers: Sequence[Towers]) -> Towers:
    """Return towers whose weights are the means of those of `towers`. Raises InputError unless all have one config.

    The mean of consecutive results is better than each of them (Izmailov et al. 2018, Wortsman et al. 2022).
    Measure batch statistics again afterwards.
    """
    if len({repr(each.config) for each in towers}) != 1:
        raise InputError(f"mean: got {len(towers)} towers, expected at least one, all of the same config")
    states = [each.state_dict() for each in towers]
    means = {
        name: torch.stack([s[name] for s in states]).mean(dim=0) if first.is_floating_point() else first.clone()
        for name, first in states[0].items()
    }
    return build(towers[0].config, means)
