"""Towers behind the scheduler for CUDA devices, beside the plain engine, and random inputs for both."""

import dataclasses

import numpy as np

from cjkclip import engines
from cjkclip.engines.torch import TorchEngine, gpu
from cjkclip.engines.torch.towers import build
from support.engines import MODELS, random_params

ATOL = 2e-6
RNG = np.random.default_rng(0)


def runner(model: str, tower: str, depth: int = 2) -> tuple[gpu.Runner, TorchEngine]:
    """Return a tower of MODELS behind the scheduler, and the plain engine with the same parameters."""
    config = MODELS[model]
    if tower == "text":
        config = dataclasses.replace(config, text=dataclasses.replace(config.text, depth=depth))
    elif model != "resnet":
        config = dataclasses.replace(config, vision=dataclasses.replace(config.vision, depth=depth))
    plain = engines.build(config, random_params(config), engine="torch", precision="fp32", device="cpu")
    assert isinstance(plain, TorchEngine)
    own = build(config, plain.towers.state_dict()).eval()
    module = own.vision if tower == "image" else own.text
    assert module is not None
    return gpu.Runner(module, "fp32", "cpu"), plain


def pixels(count: int, side: int = 32) -> np.ndarray:
    """Return new random pixels."""
    return RNG.normal(size=(count, 3, side, side)).astype(np.float32)


def ids(count: int, length: int = 9) -> np.ndarray:
    """Return new random token ids, each row with the end token at its end."""
    rows = RNG.integers(1, 40, (count, length))
    rows[:, -1] = 49
    return rows
