"""A folder of JPEG photographs to vectors on disk, Chinese-CLIP ViT-B/16 with random weights.

Ours is `encode_image` over paths as `cjkclip embed` calls it. The peers are the two usual loops: transformers one
picture at a time, and cn_clip's way, its transform and batches of 32 in fp32.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tests.peers import cn_clip, transformers

import cjkclip
from bench.chinese import MEGAPIXELS, row, unit, write_peer
from bench.timing import Row
from cjkclip.probes import photograph

PHOTOS, BATCH = 16, 32


def measure(rounds: int) -> list[Row]:
    """Every size beside both loops."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        model = write_peer(Path(folder))
        clip = cjkclip.load(folder)
        loops = {"a transformers loop": one_by_one(Path(folder), model), "cn_clip's way": in_batches(model)}
        for name, size in MEGAPIXELS.items():
            photos = written(Path(folder) / name, photograph(*size))
            for exact in (True, False) if name == "12 MP" else (True,):
                used = f"exact={exact}, {clip.engine.name} {clip.engine.precision}"

                def ours(photos: list[Path] = photos, exact: bool = exact) -> np.ndarray:
                    return saved(clip.encode_image(photos, exact=exact))

                for peer, loop in loops.items():
                    job = f"{PHOTOS} photographs of {name} to vectors on disk"
                    rows.append(row(job, (used, peer), ours, lambda loop=loop, p=photos: loop(p), min(3, rounds)))
    return rows


def written(folder: Path, file: bytes) -> list[Path]:
    """As many files."""
    folder.mkdir()
    paths = [folder / f"{i}.jpg" for i in range(PHOTOS)]
    for path in paths:
        path.write_bytes(file)
    return paths


def saved(vectors: np.ndarray) -> np.ndarray:
    """The same, after they were written."""
    with tempfile.TemporaryFile() as file:
        np.save(file, vectors)
    return vectors


def one_by_one(folder: Path, model: Any) -> Any:
    """As transformers' model card does it, for many."""
    processor = transformers().ChineseCLIPImageProcessor.from_pretrained(folder)

    def loop(paths: list[Path]) -> np.ndarray:
        found = list[np.ndarray]()
        with torch.inference_mode():
            for path in paths:
                inputs = processor(Image.open(path).convert("RGB"), return_tensors="pt")
                found.append(unit(model.get_image_features(**inputs).pooler_output))
        return saved(np.concatenate(found))

    return loop


def in_batches(model: Any) -> Any:
    """As cn_clip's extract_features: its transform, batches, no workers; the tower is the same arithmetic."""
    transform = cn_clip().image_transform(224)

    def loop(paths: list[Path]) -> np.ndarray:
        found = list[np.ndarray]()
        with torch.inference_mode():
            for start in range(0, len(paths), BATCH):
                batch = torch.stack([transform(Image.open(path)) for path in paths[start : start + BATCH]])
                found.append(unit(model.get_image_features(pixel_values=batch).pooler_output))
        return saved(np.concatenate(found))

    return loop
