"""`python -m bench.haste`: accuracy of fast mode (`exact=False`), over parts of two photographs as large JPEG files.

Prints cosine similarities to exact mode for the bundled model and Chinese-CLIP ViT-B/16 with random weights, in
float32. The centred cosine subtracts the mean vector first, because the plain one looks too good. Writes nothing.
"""

import io
import tempfile
import warnings
from pathlib import Path

from PIL import Image

import cjkclip
from bench.chinese import write_peer
from cjkclip.precision.judge import centred_cosines
from cjkclip.probes import parts

ENLARGED, COUNT, QUALITY = 4, 12, 90


def files() -> list[bytes]:
    """Return square parts of scikit-learn's photographs as JPEG files, enlarged to 280 to 1,700 pixels a side."""
    contents: list[bytes] = []
    for part in (part for name in ("china.jpg", "flower.jpg") for part in parts(name, COUNT)):
        file = io.BytesIO()
        size = (part.width * ENLARGED, part.height * ENLARGED)
        part.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=QUALITY)
        contents.append(file.getvalue())
    return contents


def summary(clip: cjkclip.Clip, pictures: list[bytes]) -> str:
    """Return the least and mean cosine similarity between exact and fast mode, plain and centred, as text."""
    exact, fast = (clip.encode_image(pictures, exact=each) for each in (True, False))
    cosines = {"plain": (exact * fast).sum(axis=1), "centred": centred_cosines(exact, fast)}
    return ", ".join(
        f"{name} cosine {each.min():.5f} at least, {each.mean():.5f} on average" for name, each in cosines.items()
    )


def main() -> None:
    """Measure both models and print the result."""
    pictures = files()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_peer(Path(folder))
        for name, model in (("moji", "moji"), ("ViT-B/16, random weights", folder)):
            print(f"{name}: {summary(cjkclip.load(model, precision='fp32'), pictures)}")


if __name__ == "__main__":
    main()
