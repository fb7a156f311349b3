"""Write tests/golden/moji: outputs of the torch engine for three images and ten texts, with the bundled model.

Run it after a training: `python -m tools.moji_golden`. Tests compare the other engines with these numbers.
"""

import json
from pathlib import Path

import numpy as np

import cjkclip

FOLDER = Path(__file__).parent.parent / "tests" / "golden" / "moji"
PICTURES = ("1f431", "1f363", "1f3d4")  # cat face, sushi, mountain, in the Noto design
TEXTS = ("猫", "寿司", "雪山", "貓臉", "壽司", "おにぎり", "고양이 얼굴", "초밥", "cat face", "snow-capped mountain")


def main() -> None:
    """Write the inputs and the expected outputs."""
    clip = cjkclip.load("moji", engine="torch")
    images = FOLDER / "images"
    images.mkdir(parents=True, exist_ok=True)
    pictures = cjkclip.moji.pictures("noto")
    files = [images / f"{cp}.webp" for cp in PICTURES]
    for file, cp in zip(files, PICTURES, strict=True):
        file.write_bytes(pictures[cp])
    pixels, tokens = clip.preprocess(files, published=True), clip.tokenize(TEXTS)
    expected = {"pixel_values": pixels, "input_ids": tokens.ids, "attention_mask": tokens.mask}
    expected |= clip.engine.image_stages(pixels) | clip.engine.text_stages(tokens.ids, tokens.mask)
    image, text = clip.encode_pixels(pixels), clip.encode_tokens(tokens)
    expected |= {"image_features_norm": image, "text_features_norm": text}
    expected |= {"logits_per_image": clip.logit_scale * image @ text.T, "logit_scale_exp": np.array(clip.logit_scale)}
    np.savez_compressed(FOLDER / "expected.npz", **expected)
    inputs = {"texts": TEXTS, "images": [{"file": file.name} for file in files]}
    (FOLDER / "inputs.json").write_text(json.dumps(inputs, ensure_ascii=False, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
