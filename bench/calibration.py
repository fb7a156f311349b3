"""`python -m bench.calibration`: accuracy of int8 when it is calibrated on one kind of image and tested on another.

Uses the image tower of Chinese-CLIP ViT-B/16 with random weights and 32 images of each kind. Prints the mean cosine
similarity to float32, plain and after subtracting the mean. Takes about seven minutes and writes nothing.
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import cjkclip
from bench.chinese import write_peer
from cjkclip.engines.openvino.int8 import Int8Engine, Quantised, quantise
from cjkclip.engines.openvino.ops import OpenvinoEngine
from cjkclip.image import open_picture
from cjkclip.precision.int8 import judge
from cjkclip.probes import noise, parts

COUNT = 32


def enlarged() -> list[Image.Image]:
    """Return random square parts of drawings."""
    rng, images = np.random.default_rng(0), list[Image.Image]()
    for picture in drawings("fluent", 7):
        side = int(rng.integers(16, 48))
        left, top = (int(start) for start in rng.integers(0, 64 - side, 2))
        images.append(picture.crop((left, top, left + side, top + side)))
    return images


def drawings(design: str, first: int) -> list[Image.Image]:
    """Return drawings of one bundled design."""
    return [open_picture(picture) for _, picture in cjkclip.moji.gallery(design)[first :: 1379 // COUNT][:COUNT]]


def main() -> None:
    """Compare bf16, and int8 for every kind of calibration images, with float32."""
    with tempfile.TemporaryDirectory() as folder:
        write_peer(Path(folder))
        clip = cjkclip.load(folder, precision="fp32")
        half = cjkclip.load(folder, precision="bf16")
        assert isinstance(clip.engine, OpenvinoEngine)
        test_images = {"photographs": parts("flower.jpg", COUNT), "drawings": drawings("noto", 0)}
        calibration = {
            "the same photograph": parts("flower.jpg", 2 * COUNT)[COUNT:],
            "another photograph": parts("china.jpg", COUNT),
            "drawings": drawings("fluent", 3),
            "drawings, enlarged": enlarged(),
            "a photograph and drawings": [*parts("china.jpg", COUNT), *drawings("fluent", 3)],
        }
        pixels = {name: clip.preprocess(pictures) for name, pictures in calibration.items()}
        pixels["noise"] = noise(COUNT, 224)
        inputs = {name: clip.preprocess(pictures) for name, pictures in test_images.items()}
        print_cosines("bf16", half, clip, inputs)
        graph = clip.engine.graph("image", stages=False)[0]
        for name, rows in pixels.items():
            quantised = quantise(graph, [[row[None]] for row in rows])
            print_cosines(
                f"int8, {name}",
                Int8Engine(clip.config, clip.params, Quantised(graphs={"image": quantised})),
                clip,
                inputs,
            )


def print_cosines(
    name: str, one: "cjkclip.Clip | Int8Engine", clip: cjkclip.Clip, inputs: dict[str, np.ndarray]
) -> None:
    """Print a line for each kind of image."""
    engine = one.engine if isinstance(one, cjkclip.Clip) else one
    for kind, pixels in inputs.items():
        expected, actual = (unit(built.image(pixels)) for built in (clip.engine, engine))
        plain, centred = float((expected * actual).sum(axis=1).mean()), judge({"image": expected}, {"image": actual}, 0)
        print(f"{name}, tested on {kind}: plain {plain:.5f}, centred {centred['image mean']:.3f}", flush=True)


def unit(rows: np.ndarray) -> np.ndarray:
    """Return the rows normalised to unit length."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
