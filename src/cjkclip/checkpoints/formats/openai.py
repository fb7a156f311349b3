"""OpenAI's layout: its own files, and the files of open_clip's CLIP and CustomTextCLIP.

OpenAI's files have no config. Only OpenAI published TorchScript archives, so their activation and head width are known.
A plain state dict may be open_clip's, which has the same names: for it the caller must pass both as facts.
Facts: github.com/openai/CLIP at d05afc4, github.com/mlfoundations/open_clip at 89fb801.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from cjkclip.checkpoints.formats import CLIP_TEXT, CLIP_VIT, Checkpoint, Format, Parts
from cjkclip.checkpoints.formats.pixels import OPENAI_MEAN, OPENAI_STD, torchvision_rules
from cjkclip.checkpoints.layouts import Layout, Row
from cjkclip.config import Model, Text, Vit
from cjkclip.errors import FactsError, LayoutError
from cjkclip.text import Tokenizer
from cjkclip.text import bpe_files as files
from cjkclip.text.bpe import OPEN_CLIP, OPENAI, Bpe, BpeRules, clip_bpe

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


_VISION_KEYS = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"}
_TEXT_KEYS = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
_TOP_KEYS = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text"}


def _require_known(record: Mapping[str, Any], keys: set[str], where: str) -> None:
    """Raise FactsError for an unsupported option, since it could change the arithmetic."""
    unknown = sorted(set(record) - keys)
    if unknown:
        raise FactsError(f"open_clip_config.json: {where} has unsupported options {unknown}. Supported: {sorted(keys)}")


def _read_open_clip(checkpoint: Checkpoint) -> dict[str, Any]:
    whole = cast(dict[str, Any], checkpoint.json("open_clip_config.json"))
    model = whole.get("model_cfg", {})
    vision, text = model.get("vision_cfg", {}), model.get("text_cfg", {})
    _require_known(model, _TOP_KEYS, "model_cfg")
    _require_known(vision, _VISION_KEYS, "vision_cfg")
    _require_known(text, _TEXT_KEYS, "text_cfg")
    act = "quick_gelu" if model.get("quick_gelu", False) else "gelu"
    width, layers = vision["width"], vision["layers"]
    if isinstance(layers, list):
        heads = width * 32 // vision.get("head_width", 64)
        vision_fields: dict[str, Any] = {"kind": "resnet", "stages": tuple(cast(list[int], layers))}
    else:
        heads, mlp = width // vision.get("head_width", 64), int(width * vision.get("mlp_ratio", 4.0))
        vision_fields = {
            **CLIP_VIT,
            "patch": vision["patch_size"],
            "depth": layers,
            "mlp": mlp,
            "act": act,
            "eps": 1e-5,
        }
    vision_fields |= {"image_size": vision["image_size"], "width": width, "heads": heads}
    size, vocab = text["width"], text["vocab_size"]
    text_fields = {"width": size, "depth": text["layers"], "heads": text["heads"]}
    text_fields |= {"mlp": int(size * text.get("mlp_ratio", 4))}
    text_fields |= {"act": act, "eps": 1e-5, "vocab": vocab, "context": text["context_length"]}
    text_fields |= CLIP_TEXT | {"pool": "largest-id", "eot": vocab - 1}
    rules = whole.get("preprocess_cfg", {})
    if rules.get("interpolation", "bicubic") != "bicubic" or rules.get("resize_mode", "shortest") != "shortest":
        raise FactsError(
            f"open_clip_config.json: preprocess_cfg {rules} is not supported. Expected interpolation 'bicubic' "
            "and resize_mode 'shortest'"
        )
    mean, std = rules.get("mean", OPENAI_MEAN), rules.get("std", OPENAI_STD)
    image = torchvision_rules(vision["image_size"], mean, std)
    return {"vision": vision_fields, "text": text_fields, "image": image, "embed": model["embed_dim"], "scale": None}


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


def _write_open_clip(parts: Parts, folder: Path, *, custom: bool = False) -> None:
    config = parts.config
    vision, text, image = config.vision, config.text, config.image
    if vision is None or not isinstance(text, Text):
        raise LayoutError(
            "open_clip's CLIP needs an image tower and a causal text tower, which this model lacks. Use "
            "layout 'cjkclip'"
        )
    shared: dict[str, Any] = {"image_size": vision.image_size, "width": vision.width}
    if isinstance(vision, Vit):
        vision_fields = shared | {"layers": vision.depth, "head_width": vision.width // vision.heads}
        vision_fields |= {"patch_size": vision.patch, "mlp_ratio": vision.mlp / vision.width}
        quick = vision.act == "quick_gelu"
    else:
        vision_fields = shared | {"layers": list(vision.stages), "head_width": vision.width * 32 // vision.heads}
        quick = text.act == "quick_gelu"
    text_fields = {
        "context_length": text.context,
        "vocab_size": text.vocab,
        "width": text.width,
        "heads": text.heads,
    }
    text_fields |= {"layers": text.depth, "mlp_ratio": text.mlp / text.width}
    model: dict[str, Any] = {
        "embed_dim": config.embed,
        "vision_cfg": vision_fields,
        "text_cfg": text_fields,
        "quick_gelu": quick,
    }
    whole: dict[str, Any] = {"model_cfg": model | ({"custom_text": True} if custom else {})}
    if image is not None:
        if (image.resize, image.filter) != ("short-side", "bicubic"):
            raise LayoutError(
                f"open_clip's config has no resize={image.resize!r} with filter={image.filter!r}. Use layout 'cjkclip'"
            )
        rules = {"mean": image.mean, "std": image.std, "interpolation": "bicubic", "resize_mode": "shortest"}
        whole["preprocess_cfg"] = rules
    (folder / "open_clip_config.json").write_text(json.dumps(whole, indent=2) + "\n", "utf-8")
    if isinstance(parts.tokenizer, Bpe):
        parts.tokenizer.save_transformers(folder)


def _write_openai(parts: Parts, folder: Path) -> None:
    """Write nothing: OpenAI's layout has no side files, so loading it again needs facts."""
    del parts, folder


def _form(name: str, prefix: str, config_file: str | None, write: Callable[[Parts, Path], None]) -> list[Format]:
    """Return one format per kind of image tower: visual.conv1 is the patch embedding of a ViT, the stem of a ResNet."""
    towers = (("visual.proj", VISUAL), ("visual.attnpool.q_proj.weight", VISUAL_RESNET))
    return [
        Format(
            layout=Layout(
                name=name,
                rows=(SCALE, *visual, *_text_rows(prefix)),
                marks=(mark, f"{prefix}text_projection"),
                harmless=("attn_mask", "text.attn_mask", *JIT_ENTRIES),
            ),
            config_file=config_file,
            read=_read_shapes if config_file is None else _read_open_clip,
            tokenizer=_tokenizer,
            weights_file="model.pt" if config_file is None else "open_clip_model.safetensors",
            write=write,
        )
        for mark, visual in towers
    ]


OPENAI_FORMATS = (
    *_form("open_clip", "", "open_clip_config.json", _write_open_clip),
    *_form("open_clip_custom", "text.", "open_clip_config.json", partial(_write_open_clip, custom=True)),
    *_form("openai", "", None, _write_openai),
)
