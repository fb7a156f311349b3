"""Other shapes at their real sizes, random weights: ViT-L/14, RN50, int8, and the towers of the other families.

Beside transformers in fp32 on the same weights, and beside cn_clip for RN50. rinna's, KoCLIP's and Taiyi's checkpoints
hold a ViT-B beside a BERT; one dual encoder of transformers stands for their towers.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.peers import cn_clip, transformers

import cjkclip
from bench.chinese import row, unit, write_peer
from bench.timing import Row, worked
from cjkclip.probes import noise
from cjkclip.speed import work

ANYHOW = {"text.heads": 12, "vision.heads": 32}


def measure(rounds: int) -> list[Row]:
    """Every line."""
    return [*int8(rounds), *large(rounds), *resnet(rounds), *dual(rounds)]


def beside(job: str, clip: cjkclip.Clip, peer: str, theirs: Callable[[], Any], count: int, rounds: int) -> Row:
    """One line of an image tower."""
    seen = noise(count, 224)  # how fast a tower is does not depend on what it sees
    used = f"{clip.engine.name} {clip.engine.precision}"
    made = row(f"{job}, {count} at once", (used, peer), lambda: clip.encode_pixels(seen), theirs, rounds)
    return worked(made, count * work.image(clip.config))


def hugging(model: Any, count: int) -> Callable[[], np.ndarray]:
    """transformers' image features of as many pictures."""
    tensor = torch.from_numpy(noise(count, 224))

    def encode() -> np.ndarray:
        with torch.inference_mode():
            return unit(model.get_image_features(pixel_values=tensor).pooler_output)

    return encode


def int8(rounds: int) -> list[Row]:
    """Chinese-CLIP ViT-B/16. Quantised once and kept in the cache, as for everybody."""
    with tempfile.TemporaryDirectory() as folder:
        peer = write_peer(Path(folder))
        clip = cjkclip.load(folder, precision="int8")
        return [
            beside("image tower", clip, "transformers fp32", hugging(peer, n), n, max(3, rounds // 2))
            for n in (1, 8, 32)
        ]


def large(rounds: int) -> list[Row]:
    """CLIP ViT-L/14."""
    peer = transformers()
    torch.manual_seed(0)
    seen = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    config = peer.CLIPConfig(vision_config=seen | {"patch_size": 14}, projection_dim=768)
    with tempfile.TemporaryDirectory() as folder:
        model = peer.CLIPModel(config).eval()
        model.save_pretrained(folder)
        clip = cjkclip.load(folder)
        return [beside("ViT-L/14", clip, "transformers fp32", hugging(model, 4), 4, max(3, rounds // 2))]


def resnet(rounds: int) -> list[Row]:
    """Chinese-CLIP RN50, beside cn_clip itself."""
    peer = cn_clip()
    torch.manual_seed(0)
    model = peer.utils.create_model("RN50@RBT3-chinese").float().eval()
    tensor = torch.from_numpy(noise(8, 224))

    def theirs() -> np.ndarray:
        with torch.inference_mode():
            return unit(model.encode_image(tensor))

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip_cn_rn50.pt"
        torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, file)
        clips = [cjkclip.load(file, precision=precision, facts=ANYHOW) for precision in ("fp32", "bf16")]
        return [beside("RN50", clip, "cn_clip fp32", theirs, 8, rounds) for clip in clips]


def dual(rounds: int) -> list[Row]:
    """CLIP's ViT-B/32 beside a base BERT."""
    peer = transformers()
    torch.manual_seed(0)
    config = peer.VisionTextDualEncoderConfig.from_vision_text_configs(
        peer.CLIPVisionConfig(), peer.BertConfig(vocab_size=21_128), projection_dim=512
    )
    ids = torch.from_numpy(np.random.default_rng(0).integers(1, 21_000, (32, 16)))
    mask = torch.ones_like(ids)
    with tempfile.TemporaryDirectory() as folder:
        model = peer.VisionTextDualEncoderModel(config).eval()
        model.save_pretrained(folder)
        clip = cjkclip.load(folder)

        def theirs() -> np.ndarray:
            with torch.inference_mode():
                return unit(model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output)

        used = f"{clip.engine.name} {clip.engine.precision}"
        tokens = cjkclip.Tokens(ids=ids.numpy(), mask=mask.numpy(), truncated=())
        names = used, "transformers fp32"
        text = row("dual encoder's BERT, 32 texts of 16", names, lambda: clip.encode_tokens(tokens), theirs, rounds)
        return [
            beside("dual encoder's ViT-B/32", clip, "transformers fp32", hugging(model, 8), 8, rounds),
            worked(text, 32 * work.text(clip.config, 16)),
        ]
