"""OpenAI's layout: the names that its own files and open_clip's have in common, and the reader of its own files.

OpenAI's files have no config. Only OpenAI published TorchScript archives, so their activation and head width are known.
A plain state dict may be open_clip's, which has the same names: for it the caller must pass both as facts.
Facts: github.com/openai/CLIP at d05afc4, github.com/mlfoundations/open_clip at 89fb801.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cjkclip.checkpoints.formats import CLIP_TEXT, CLIP_VIT, Checkpoint, Format, Parts
from cjkclip.checkpoints.formats.pixels import OPENAI_MEAN, OPENAI_STD, torchvision_rules
from cjkclip.checkpoints.layouts import Layout, Row
from cjkclip.config import Model
from cjkclip.text import Tokenizer
from cjkclip.text import bpe_files as files
from cjkclip.text.bpe import OPEN_CLIP, OPENAI, Bpe, BpeRules, clip_bpe

Reader = Callable[[Checkpoint], dict[str, Any]]
JIT_ENTRIES = ("input_resolution", "context_length", "vocab_size")
CLIP_VOCAB = 49_408


def _block_rows(ours: str, theirs: str) -> tuple[Row, ...]:
    ours, theirs = ours + ".blocks.{i}", theirs + "transformer.resblocks.{i}"
    thirds: tuple[Literal["q", "k", "v"], ...] = ("q", "k", "v")
    return (
        *(Row(f"{ours}.attn.{n}.{{p}}", f"{theirs}.attn.in_proj_{{p}}", n) for n in thirds),
        Row(f"{ours}.attn.out.{{p}}", f"{theirs}.attn.out_proj.{{p}}"),
        Row(f"{ours}.ln1.{{p}}", f"{theirs}.ln_1.{{p}}"),
        Row(f"{ours}.ln2.{{p}}", f"{theirs}.ln_2.{{p}}"),
        Row(f"{ours}.mlp.fc1.{{p}}", f"{theirs}.mlp.c_fc.{{p}}"),
        Row(f"{ours}.mlp.fc2.{{p}}", f"{theirs}.mlp.c_proj.{{p}}"),
    )


def _conv_rows(ours: str, theirs: str, names: Mapping[str, str]) -> tuple[Row, ...]:
    """Return the rows of convolutions and their normalisations: conv1 and bn1 are one module here."""
    rows: list[Row] = []
    for name, n in names.items():
        rows += [Row(f"{ours}{name}.conv.weight", f"{theirs}conv{n}.weight")]
        rows += [Row(f"{ours}{name}.bn.{{p}}", f"{theirs}bn{n}.{{p}}")]
    return tuple(rows)


VISUAL = (
    Row("vision.cls", "visual.class_embedding"),
    Row("vision.position.weight", "visual.positional_embedding"),
    Row("vision.patch.weight", "visual.conv1.weight"),
    Row("vision.ln_pre.{p}", "visual.ln_pre.{p}"),
    Row("vision.ln_post.{p}", "visual.ln_post.{p}"),
    Row("vision.proj.weight", "visual.proj", "transpose"),
    *_block_rows("vision", "visual."),
)
_STAGE = ("vision.stage{s}.{b}.", "visual.layer{s}.{b}.")
VISUAL_RESNET = (
    *_conv_rows("vision.", "visual.", {"stem1": "1", "stem2": "2", "stem3": "3"}),
    *_conv_rows(*_STAGE, {"reduce": "1", "spatial": "2", "expand": "3"}),
    Row(f"{_STAGE[0]}down.conv.weight", f"{_STAGE[1]}downsample.0.weight"),
    Row(f"{_STAGE[0]}down.bn.{{p}}", f"{_STAGE[1]}downsample.1.{{p}}"),
    Row("vision.pool.position.weight", "visual.attnpool.positional_embedding"),
    *(Row(f"vision.pool.{n}.{{p}}", f"visual.attnpool.{n}_proj.{{p}}") for n in "qkv"),
    Row("vision.pool.out.{p}", "visual.attnpool.c_proj.{p}"),
)
SCALE = Row("logit_scale", "logit_scale")


def _text_rows(prefix: str) -> tuple[Row, ...]:
    return (
        Row("text.token.weight", f"{prefix}token_embedding.weight"),
        Row("text.position.weight", f"{prefix}positional_embedding"),
        Row("text.ln_final.{p}", f"{prefix}ln_final.{{p}}"),
        Row("text.proj.weight", f"{prefix}text_projection", "transpose"),
        *_block_rows("text", prefix),
    )


def _read_shapes(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the fields that shapes determine; for OpenAI's own archives also the activation and 64-wide heads."""
    tensors = checkpoint.tensors
    own = set(JIT_ENTRIES) <= set(tensors)
    width = tensors["ln_final.weight"].shape[0]
    vocab, context = tensors["token_embedding.weight"].shape[0], tensors["positional_embedding"].shape[0]
    text: dict[str, Any] = {
        "width": width,
        "depth": count(tensors, "transformer.resblocks"),
        "mlp": len(tensors["transformer.resblocks.0.mlp.c_fc.bias"]),
    }
    text |= CLIP_TEXT | {"vocab": vocab, "context": context, "pool": "largest-id", "eot": vocab - 1, "eps": 1e-5}
    vision = read_vit(tensors) if "visual.proj" in tensors else read_resnet(tensors)
    if own:
        text |= {"act": "quick_gelu", "heads": width // 64}
        vision |= {"act": "quick_gelu", "heads": vision["width"] // 64} if vision["kind"] == "vit" else {}
    image = torchvision_rules(vision["image_size"], OPENAI_MEAN, OPENAI_STD)
    return {"vision": vision, "text": text, "image": image, "embed": tensors["text_projection"].shape[1], "scale": None}


def read_vit(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the fields of OpenAI's ViT from its shapes: all but the activation and the number of heads."""
    width, _, _, patch = tensors["visual.conv1.weight"].shape
    grid = round((len(tensors["visual.positional_embedding"]) - 1) ** 0.5)
    depth = count(tensors, "visual.transformer.resblocks")
    vision = CLIP_VIT | {"image_size": grid * patch, "patch": patch, "width": width, "depth": depth}
    return vision | {"mlp": len(tensors["visual.transformer.resblocks.0.mlp.c_fc.bias"]), "eps": 1e-5}


def read_resnet(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the fields of OpenAI's ResNet from its shapes; its heads are 64 wide in every release."""
    width = tensors["visual.layer1.0.conv1.weight"].shape[0]
    grid = round((len(tensors["visual.attnpool.positional_embedding"]) - 1) ** 0.5)
    stages = tuple(count(tensors, f"visual.layer{s}") for s in range(1, 5))
    return {
        "kind": "resnet",
        "image_size": grid * 32,
        "width": width,
        "stages": stages,
        "heads": width * 32 // 64,
    }


def count(tensors: Mapping[str, np.ndarray], prefix: str) -> int:
    """Return the number of numbered modules under a prefix."""
    return len({name[len(prefix) + 1 :].split(".")[0] for name in tensors if name.startswith(prefix + ".")})


def _tokenizer(checkpoint: Checkpoint, config: Model) -> Tokenizer | None:
    """Return the tokenizer of the merges beside the weights, else OpenAI's if the size fits, else None."""
    rules = OPENAI if checkpoint.json("open_clip_config.json") is None else OPEN_CLIP
    folder = checkpoint.folder
    if (folder / "tokenizer.json").is_file() or (folder / "merges.txt").is_file():
        return _from_merges(files.read_vocab(folder)[1], rules)
    if config.text is None or config.text.vocab != CLIP_VOCAB:
        return None
    return _from_merges(clip_bpe().merges, rules)


def _from_merges(merges: list[files.Merge], rules: BpeRules) -> Bpe:
    return Bpe(files.openai_vocab(merges, rules.sot, rules.eot), merges, rules)


def _write_openai(parts: Parts, folder: Path) -> None:
    """Write nothing: OpenAI's layout has no side files, so loading it again needs facts."""
    del parts, folder


def published_form(
    name: str, prefix: str, config_file: str | None, read: Reader, write: Callable[[Parts, Path], None]
) -> tuple[Format, ...]:
    """Return one format per kind of image tower: visual.conv1 is the patch embedding of a ViT, the stem of a ResNet.

    `prefix` stands before the text tower's names.
    """
    towers = (("visual.proj", VISUAL), ("visual.attnpool.q_proj.weight", VISUAL_RESNET))
    return tuple(
        Format(
            layout=Layout(
                name=name,
                rows=(SCALE, *visual, *_text_rows(prefix)),
                marks=(mark, f"{prefix}text_projection"),
                harmless=("attn_mask", "text.attn_mask", *JIT_ENTRIES),
            ),
            config_file=config_file,
            read=read,
            tokenizer=_tokenizer,
            weights_file="model.pt" if config_file is None else "open_clip_model.safetensors",
            write=write,
            positions="antialias",
        )
        for mark, visual in towers
    )


OPENAI_FORMAT = published_form("openai", "", None, _read_shapes, _write_openai)
