"""A directory of JPEG photographs to embeddings on disk, with Chinese-CLIP ViT-B/16 and random weights.

cjkclip runs `encode_image` over paths, as `cjkclip embed` does. The other packages run the usual loops in fp32:
transformers with one image at a time, cn_clip's transform with batches of 32, and sentence-transformers' `encode` with
the same model on images opened by Pillow (with paths it needs a part of torchvision that has no CPU build here).
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tests.support.peers import cn_clip, sentence_transformers, transformers

import cjkclip
from bench.chinese import MEGAPIXELS, unit, write_peer
from bench.timing import Row, used
from cjkclip.probes import photograph
from cjkclip.speed.clock import medians

PHOTOS, BATCH = 32, 32
Loop = Callable[[list[Path]], np.ndarray]


def measure(rounds: int) -> list[Row]:
    """Measure every size: each setting of cjkclip against each loop, all in turn."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        model = write_peer(Path(folder))
        peers = {
            "a transformers loop": one_by_one(Path(folder), model),
            "cn_clip's way": in_batches(model),
            "sentence-transformers' encode": encode(Path(folder)),
        }
        default, int8 = cjkclip.load(folder), cjkclip.load(folder, precision="int8")
        for name, size in MEGAPIXELS.items():
            photos = written(Path(folder) / name, photograph(*size))
            ours = {
                f"exact=True, {used('default', default)}": ours_by(default, exact=True),
                f"exact=False, {used('default', default)}": ours_by(default, exact=False),
                "exact=True, openvino int8": ours_by(int8, exact=True),
            }
            if name != "12 MP":  # fast mode gains little for smaller files
                del ours[f"exact=False, {used('default', default)}"]
            rows += beside(f"{PHOTOS} photographs of {name} to vectors on disk", ours, peers, photos, min(3, rounds))
    return rows


def beside(job: str, ours: dict[str, Loop], peers: dict[str, Loop], photos: list[Path], rounds: int) -> list[Row]:
    """Measure all loops in turn and return a row for each pair."""
    vectors_by_loop: dict[str, np.ndarray] = {}

    def call(name: str, loop: Loop) -> None:
        vectors_by_loop[name] = loop(photos)

    loops = ours | peers
    times = medians([lambda name=name, loop=loop: call(name, loop) for name, loop in loops.items()], rounds)
    took = dict(zip(loops, times, strict=True))
    return [
        Row(
            job=job,
            ours=one,
            peer=peer,
            ours_s=took[one],
            peer_s=took[peer],
            difference=float(np.abs(vectors_by_loop[one] - vectors_by_loop[peer]).max()),
        )
        for one in ours
        for peer in peers
    ]


def ours_by(clip: cjkclip.Clip, *, exact: bool) -> Loop:
    """Return the loop of cjkclip in exact or fast mode."""
    return lambda photos: saved(clip.encode_image(photos, exact=exact))


def written(folder: Path, file: bytes) -> list[Path]:
    """Write `PHOTOS` copies of a file and return their paths."""
    folder.mkdir()
    paths = [folder / f"{i}.jpg" for i in range(PHOTOS)]
    for path in paths:
        path.write_bytes(file)
    return paths


def saved(vectors: np.ndarray) -> np.ndarray:
    """Write the embeddings to a file and return them."""
    with tempfile.TemporaryFile() as file:
        np.save(file, vectors)
    return vectors


def one_by_one(folder: Path, model: Any) -> Loop:
    """Return a loop over many images with the code of transformers' model card."""
    processor = transformers().ChineseCLIPImageProcessor.from_pretrained(folder)

    def loop(paths: list[Path]) -> np.ndarray:
        features = list[np.ndarray]()
        with torch.inference_mode():
            for path in paths:
                inputs = processor(Image.open(path).convert("RGB"), return_tensors="pt")
                features.append(unit(model.get_image_features(**inputs).pooler_output))
        return saved(np.concatenate(features))

    return loop


def in_batches(model: Any) -> Loop:
    """Return a loop like cn_clip's extract_features: its transform, batches, no workers, the same tower."""
    transform = cn_clip().image_transform(224)

    def loop(paths: list[Path]) -> np.ndarray:
        features = list[np.ndarray]()
        with torch.inference_mode():
            for start in range(0, len(paths), BATCH):
                batch = torch.stack([transform(Image.open(path)) for path in paths[start : start + BATCH]])
                features.append(unit(model.get_image_features(pixel_values=batch).pooler_output))
        return saved(np.concatenate(features))

    return loop


def encode(folder: Path) -> Loop:
    """Return a loop with sentence-transformers' `encode`, in its default batches of 32."""
    peer = sentence_transformers()
    model = peer.SentenceTransformer(modules=[peer.base.modules.Transformer(str(folder))], device="cpu")

    def loop(paths: list[Path]) -> np.ndarray:
        return saved(model.encode([Image.open(path) for path in paths], normalize_embeddings=True))

    return loop
