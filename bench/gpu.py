"""`python -m bench.gpu`: ViT-B/16 and ViT-L/14 on a CUDA device, against transformers and open_clip in bfloat16.

All three have the same random weights and inputs: float32 pixels or token ids in the computer's memory become features
in the computer's memory. The other packages run as documented: weights in bfloat16, scaled dot product attention,
`.to(device)` and `.cpu()`. cjkclip warms up until its blocks are compiled. Writes docs/benchmarks/gpu.md.
`--device cpu --batches 2` runs the same code on a computer without a card and writes nothing.
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.support.peers import open_clip, transformers

import cjkclip
from bench import pages
from bench.timing import Row, markdown
from cjkclip.engines.torch import gpu
from cjkclip.probes import noise
from cjkclip.speed import work
from cjkclip.speed.clock import medians
from cjkclip.speed.products import matrix_rate

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "gpu.md"
LENGTH = 77
LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A published size: open_clip's name for it, and the config values for transformers."""

    name: str
    open_clip: str
    vision: dict[str, int]
    text: dict[str, int]
    embed: int


SHAPES = (
    Shape(name="ViT-B/16", open_clip="ViT-B-16-quickgelu", vision={"patch_size": 16}, text={}, embed=512),
    Shape(name="ViT-L/14", open_clip="ViT-L-14-quickgelu", vision=LARGE | {"patch_size": 14}, text=TEXT, embed=768),
)
Encode = Callable[[np.ndarray], np.ndarray]


def peers(folder: Path, shape: Shape, model: Any, device: str) -> dict[str, tuple[Encode, Encode]]:
    """Return functions that compute image and text features with transformers and with open_clip."""
    file = cjkclip.load(folder).save(folder / "open_clip", layout="open_clip") / "open_clip_model.safetensors"
    other = open_clip().create_model(shape.open_clip, pretrained=str(file), precision="pure_bf16", device=device).eval()
    half = model.to(device, torch.bfloat16).eval()

    def hugging(images: np.ndarray) -> torch.Tensor:
        return half.get_image_features(torch.from_numpy(images).to(device, torch.bfloat16)).pooler_output

    def hugging_text(ids: np.ndarray) -> torch.Tensor:
        return half.get_text_features(torch.from_numpy(ids).to(device)).pooler_output

    def opened(images: np.ndarray) -> torch.Tensor:
        return other.encode_image(torch.from_numpy(images).to(device, torch.bfloat16))

    def opened_text(ids: np.ndarray) -> torch.Tensor:
        return other.encode_text(torch.from_numpy(ids).to(device))

    return {
        "transformers bf16": (fetched(hugging), fetched(hugging_text)),
        "open_clip bf16": (fetched(opened), fetched(opened_text)),
    }


def fetched(encode: Callable[[np.ndarray], torch.Tensor]) -> Encode:
    """Wrap `encode` to run without gradients and to return the result in the computer's memory."""

    def call(inputs: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return encode(inputs).float().cpu().numpy()

    return call


def measure(shape: Shape, device: str, batches: list[int], rounds: int) -> Iterator[Row]:
    """Measure both towers with every batch size against each other package."""
    torch.manual_seed(0)
    peer = transformers()
    config = peer.CLIPConfig(vision_config=shape.vision, text_config=shape.text, projection_dim=shape.embed)
    limit = matrix_rate("torch", "bf16", device)
    with tempfile.TemporaryDirectory() as folder:
        model = peer.CLIPModel(config).eval()
        model.save_pretrained(folder)
        clip = cjkclip.load(folder, engine="torch", device=device, precision="bf16")
        others = peers(Path(folder), shape, model, device)
        for count in batches:
            pixels, ids = noise(count, 224), words(count)
            sides = (
                ("image", pixels, clip.engine.image, count * work.image(clip.config)),
                (
                    "text",
                    ids,
                    lambda ids: clip.engine.text(ids, np.ones_like(ids)),
                    count * work.text(clip.config, LENGTH),
                ),
            )
            for side, (tower, inputs, ours, flops) in enumerate(sides):
                for name, both in others.items():
                    job = f"{shape.name}, {tower} tower, {count} at once"
                    row = beside(job, name, (ours, both[side]), inputs, rounds)
                    yield replace(row, flops=flops, limit=limit)


def words(count: int) -> np.ndarray:
    """Return token ids of texts that fill the context; 49,407 is the end token of CLIP's vocabulary."""
    ids = np.random.default_rng(0).integers(1, 49_000, (count, LENGTH))
    ids[:, -1] = 49_407
    return ids


def beside(job: str, peer: str, calls: tuple[Encode, Encode], inputs: np.ndarray, rounds: int) -> Row:
    """Measure one row; both sides run in turn. The difference is between normalised embeddings."""
    ours, theirs = calls
    for _ in range(4):  # plain, compiled, recorded, replayed
        actual, expected = unit(ours(inputs)), unit(theirs(inputs))
    a, b = medians([lambda: ours(inputs), lambda: theirs(inputs)], rounds)
    difference = float(np.abs(actual - expected).max())
    return Row(job=job, ours="torch bf16", peer=peer, ours_s=a, peer_s=b, difference=difference)


def unit(rows: np.ndarray) -> np.ndarray:
    """Return the rows normalised to unit length."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main() -> None:
    """Measure, print, and write the section of this card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 256])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    gpu.COMPILE_AFTER = 0.0  # compile at the second call, not after half a minute of work
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = [row for shape in SHAPES for row in measure(shape, options.device, options.batches, options.rounds)]
    table = markdown(rows)
    print(table)
    if options.device.startswith("cuda"):
        body = f"torch {torch.__version__}, transformers {transformers().__version__}\n\n{table}"
        page = pages.merged(PAGE.read_text("utf-8"), torch.cuda.get_device_name(options.device), body)
        PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
