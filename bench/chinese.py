"""Chinese-CLIP ViT-B/16 in its real shape with random weights: cjkclip's defaults against other packages.

The other packages run as documented: transformers 5 (fp32, default attention, texts padded to the longest; and with
weights in bfloat16) and cn_clip (texts padded to 52, its own image transform and tokenizer).
"""

import io
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tests.support.peers import cn_clip, open_clip, transformers

import cjkclip
from bench.timing import Row, alternate, used, worked
from cjkclip.config import Image as Rules
from cjkclip.image import load_pixels
from cjkclip.probes import photograph
from cjkclip.speed import work
from cjkclip.text.wordpiece import chinese_bert

CAPTIONS = 128
MEGAPIXELS = {"0.3 MP": (640, 480), "2 MP": (1600, 1200), "12 MP": (4000, 3000)}


def captions() -> list[str]:
    """Return different Chinese captions of 8 to 20 characters, composed of names from the gallery."""
    names = [concept.names["zh"] for concept, _ in cjkclip.moji.gallery("noto")]
    rng, chosen = np.random.default_rng(0), set[str]()
    while len(chosen) < CAPTIONS:
        length = int(rng.integers(8, 21))
        chosen.add("和".join(names[i] for i in rng.integers(0, len(names), 12))[:length])
    return sorted(chosen, key=hash_of)


def hash_of(text: str) -> int:
    """Return a sort key that is repeatable and independent of length."""
    return int.from_bytes(text.encode(), "big") % 1_000_003


def write_peer(folder: Path) -> Any:
    """Save transformers' ChineseCLIPModel (ViT-B/16, base BERT) with cn_clip's vocabulary, and return it."""
    peer = transformers()
    torch.manual_seed(0)
    text = {"vocab_size": 21_128}
    vision = {"patch_size": 16}
    model = peer.ChineseCLIPModel(peer.ChineseCLIPConfig(text_config=text, vision_config=vision)).eval()
    model.save_pretrained(folder)
    peer.ChineseCLIPImageProcessor().save_pretrained(folder)
    chinese_bert().save_transformers(folder)
    return model


def unit(rows: torch.Tensor) -> np.ndarray:
    """Return the rows normalised to unit length, in float32."""
    return torch.nn.functional.normalize(rows.float(), dim=1).numpy()


def row(job: str, names: tuple[str, str], ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> Row:
    """Measure one row. Its difference is NaN unless both results are arrays of the same shape."""
    actual, expected = ours(), theirs()
    same = isinstance(actual, np.ndarray) and isinstance(expected, np.ndarray) and actual.shape == expected.shape
    apart = float(np.abs(actual - expected).max()) if same else float("nan")
    a, b = alternate(ours, theirs, rounds)
    return Row(job=job, ours=names[0], peer=names[1], ours_s=a, peer_s=b, difference=apart)


def measure(rounds: int) -> list[Row]:
    """Measure every row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        peer = write_peer(Path(folder))
        rows = [*images(Path(folder), peer, rounds), *texts(Path(folder), peer, rounds)]
    return [*rows, *tokenisers(rounds), *preprocessing(rounds)]


def images(folder: Path, peer: Any, rounds: int) -> list[Row]:
    """Measure the image tower, from pixels to normalised embeddings."""
    rng, rows = np.random.default_rng(0), list[Row]()
    half = type(peer)(peer.config).to(torch.bfloat16).eval()
    half.load_state_dict(peer.state_dict())
    clips = {"fp32": cjkclip.load(folder, precision="fp32"), "default": cjkclip.load(folder)}
    for count in (1, 8, 32):
        pixels = rng.normal(size=(count, 3, 224, 224)).astype(np.float32)
        tensor = torch.tensor(pixels)

        def theirs(model: Any = peer, tensor: torch.Tensor = tensor) -> np.ndarray:
            with torch.inference_mode():
                return unit(model.get_image_features(tensor.to(model.dtype)).pooler_output)

        for name, clip in clips.items():
            job, ours = f"image tower, {count} at once", lambda clip=clip, pixels=pixels: clip.encode_pixels(pixels)
            times, flops = max(3, rounds // (1 + count // 8)), count * work.image(clip.config)
            rows.append(worked(row(job, (used(name, clip), "transformers fp32"), ours, theirs, times), flops))
            if "bf16" in used(name, clip):  # on other processors the peer emulates it, which takes minutes
                names = (used(name, clip), "transformers, bf16 weights")
                rows.append(worked(row(job, names, ours, lambda theirs=theirs: theirs(half), times), flops))
    return rows


def texts(folder: Path, peer: Any, rounds: int) -> list[Row]:
    """Measure captions to normalised embeddings, tokenizer included."""
    inputs, clip = captions(), cjkclip.load(folder)
    tokenizer = transformers().BertTokenizerFast.from_pretrained(folder)
    default = used("default", clip)

    def padded(listed: list[str], **how: Any) -> np.ndarray:
        features = list[np.ndarray]()
        for start in range(0, len(listed), 32):
            batch = tokenizer(listed[start : start + 32], return_tensors="pt", **how)
            with torch.inference_mode():
                features.append(unit(peer.get_text_features(**batch).pooler_output))
        return np.concatenate(features)

    flops = [work.text(clip.config, int(length)) for length in clip.tokenize(inputs).mask.sum(axis=1)]
    to_52 = {"padding": "max_length", "max_length": 52, "truncation": True}
    rows = [
        worked(
            row(
                f"{CAPTIONS} captions",
                (default, name),
                lambda: clip.encode_text(inputs),
                lambda how=how: padded(inputs, **how),
                max(3, rounds // 3),
            ),
            sum(flops),
        )
        for name, how in (
            ("transformers fp32, padded to the longest of 32", {"padding": True}),
            ("transformers fp32, padded to 52 as cn_clip does", to_52),
        )
    ]
    one = inputs[:1]
    names = (default, "transformers fp32")
    query = row("one query", names, lambda: clip.encode_text(one), lambda: padded(one, padding=True), rounds)
    return [*rows, worked(query, flops[0])]


def tokenisers(rounds: int) -> list[Row]:
    """Measure texts to token ids."""
    inputs, ours, theirs = captions() * 8, chinese_bert(), cn_clip()
    names = ("tokenizer", "cn_clip.tokenize")
    job = f"tokenise {len(inputs)} captions"
    return [row(job, names, lambda: ours(inputs).ids, lambda: theirs.tokenize(inputs).numpy(), rounds)]


def preprocessing(rounds: int) -> list[Row]:
    """Measure a JPEG file to pixels on one core, with OpenAI's rules on both sides."""
    transform = open_clip().image_transform(224, is_train=False)
    rules = Rules(
        size=224,
        resize="short-side",
        filter="bicubic",
        crop="half-even",
        rgb="last",
        alpha="drop",
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    )
    rows = list[Row]()
    for (name, size), quality in product(MEGAPIXELS.items(), (90, 75)):
        file = photograph(*size, quality)
        bits = 8 * len(file) / (size[0] * size[1])  # determines the time of entropy decoding, at any size
        for exact in (True, False):
            rows.append(
                row(
                    f"JPEG of {name}, {bits:.1f} bits a pixel, to pixels",
                    (f"exact={exact}", "open_clip's transform"),
                    lambda file=file, exact=exact: load_pixels([file], rules, exact=exact)[0],
                    lambda file=file: transform(Image.open(io.BytesIO(file))).numpy(),
                    rounds,
                )
            )
    return rows
