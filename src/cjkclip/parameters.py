"""Names and shapes of every parameter of a model, from its config alone.

engines/torch derives the same list by building modules; a test compares the two.
"""

from collections.abc import Mapping

import numpy as np

from cjkclip.arrays import is_float
from cjkclip.config import Bert, Encoder, Model, PooledVit, ResNet, Text, Vit
from cjkclip.errors import LayoutError

Shapes = dict[str, tuple[int, ...]]
EXPANSION = 4  # ratio of a bottleneck's output channels to its inner channels


def shapes(config: Model) -> Shapes:
    """Return name -> shape of every parameter and buffer, in the order of the towers.

    >>> from cjkclip.config import Model
    >>> shapes(Model(vision=None, text=None, image=None, embed=8, scale=None))
    {}
    """
    both = config.vision is not None and config.text is not None
    result: Shapes = {"logit_scale": ()} if both and config.scale is None else {}
    if isinstance(config.vision, Vit):
        result |= _vit(config.vision, config.embed)
    elif isinstance(config.vision, ResNet):
        result |= _resnet(config.vision, config.embed)
    if isinstance(config.text, Text):
        result |= _text(config.text, config.embed)
    elif isinstance(config.text, Bert):
        result |= _bert(config.text, config.embed)
    return result


def _linear(name: str, out: int, width: int) -> Shapes:
    return {f"{name}.weight": (out, width), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _blocks(tower: str, config: Encoder) -> Shapes:
    result: Shapes = {}
    for i in range(config.depth):
        block, width = f"{tower}.blocks.{i}", config.width
        result |= _norm(f"{block}.ln1", width)
        for name in ("q", "k", "v", "out"):
            result |= _linear(f"{block}.attn.{name}", width, width)
        result |= _norm(f"{block}.ln2", width)
        result |= _linear(f"{block}.mlp.fc1", config.mlp, width)
        result |= _linear(f"{block}.mlp.fc2", width, config.mlp)
    return result


def _vit(config: Vit, embed: int) -> Shapes:
    width, patch = config.width, config.patch
    return {
        "vision.cls": (width,),
        "vision.patch.weight": (width, 3, patch, patch),
        **({"vision.patch.bias": (width,)} if config.patch_bias else {}),
        "vision.position.weight": ((config.image_size // patch) ** 2 + 1, width),
        **(_norm("vision.ln_pre", width) if config.pre_norm else {}),
        **_blocks("vision", config),
        **_norm("vision.ln_post", width),
        **(_linear("vision.pooler", width, width) if isinstance(config, PooledVit) else {}),
        **({"vision.proj.weight": (embed, width)} if config.project else {}),
    }


def _text(config: Text, embed: int) -> Shapes:
    return {
        "text.token.weight": (config.vocab, config.width),
        "text.position.weight": (config.context, config.width),
        **_blocks("text", config),
        **_norm("text.ln_final", config.width),
        **({"text.proj.weight": (embed, config.width)} if config.project else {}),
    }


def _bert(config: Bert, embed: int) -> Shapes:
    width = config.width
    result: Shapes = {
        "text.token.weight": (config.vocab, width),
        "text.position.weight": (config.context + config.start, width),
        "text.segment.weight": (config.types, width),
        **_norm("text.ln_embed", width),
        **_blocks("text", config),
    }
    if config.head == "project":
        return result | {"text.proj.weight": (embed, width)}
    result |= _linear("text.pooler", width, width)
    if config.head == "pooler-project":
        result["text.proj.weight"] = (embed, width)
    return result | (_linear("text.proj", embed, width) if config.head == "classify" else {})


def spare(config: Model) -> Shapes:
    """Return shapes of parameters that a file may contain but no tower reads; saving writes them again.

    These are the pooler of a BERT that does not use it, and the scale of a checkpoint of which one tower is used.
    """
    result: Shapes = {} if config.vision is not None and config.text is not None else {"logit_scale": ()}
    if isinstance(config.text, Bert) and config.text.head == "project":
        result |= _linear("text.pooler", config.text.width, config.text.width)
    return result


def _conv_bn(name: str, out: int, channels: int, kernel: int) -> Shapes:
    return {
        f"{name}.conv.weight": (out, channels, kernel, kernel),
        **{f"{name}.bn.{p}": (out,) for p in ("weight", "bias", "running_mean", "running_var")},
        f"{name}.bn.num_batches_tracked": (),
    }


def _resnet(config: ResNet, embed: int) -> Shapes:
    width, half = config.width, config.width // 2
    result = _conv_bn("vision.stem1", half, 3, 3) | _conv_bn("vision.stem2", half, half, 3)
    result |= _conv_bn("vision.stem3", width, half, 3)
    channels = width
    for stage, blocks in enumerate(config.stages):
        inner = width * 2**stage
        for block in range(blocks):
            name = f"vision.stage{stage + 1}.{block}"
            result |= _conv_bn(f"{name}.reduce", inner, channels, 1)
            result |= _conv_bn(f"{name}.spatial", inner, inner, 3)
            result |= _conv_bn(f"{name}.expand", inner * EXPANSION, inner, 1)
            if block == 0 and (stage > 0 or channels != inner * EXPANSION):
                result |= _conv_bn(f"{name}.down", inner * EXPANSION, channels, 1)
            channels = inner * EXPANSION
    result["vision.pool.position.weight"] = ((config.image_size // 32) ** 2 + 1, channels)
    for name in "qkv":
        result |= _linear(f"vision.pool.{name}", channels, channels)
    return result | _linear("vision.pool.out", embed, channels)


def check(
    params: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[int, ...]],
    source: str,
    spare: Mapping[str, tuple[int, ...]] | None = None,
) -> None:
    """Raise LayoutError unless `params` has every expected parameter in its shape, and no other but those of `spare`.

    All are floats, except scalars: one of them is a counter, which no tower reads.
    """
    missing = [name for name in expected if name not in params]
    surplus = [name for name in params if name not in expected and name not in (spare or {})]
    if missing or surplus:
        raise LayoutError(
            f"{source}: the config needs {len(missing)} parameters that the file lacks ({some_of(missing)}); "
            f"the file has {len(surplus)} that the config does not need ({some_of(surplus)}). "
            "Use the config.json of these weights, or correct a wrong fact: load(..., facts={'text.depth': 12})"
        )
    for name, shape in expected.items():
        if params[name].shape != shape:
            raise LayoutError(
                f"{source}: {name} has shape {params[name].shape}, the config needs {shape}. Use the config.json of "
                "these weights"
            )
        if shape and not is_float(params[name]):
            raise LayoutError(
                f"{source}: {name} has type {params[name].dtype}, expected floats of 16, 32 or 64 bits. Load the "
                "checkpoint from before it was quantised: load(..., precision='int8') quantises it"
            )


def some_of(names: list[str]) -> str:
    """Return the first five names, for an error message."""
    shown = ", ".join(names[:5])
    return "none" if not names else shown if len(names) <= 5 else f"{shown}, ..."
