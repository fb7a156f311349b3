"""transformers' FlaxCLIPModel: a tree of parameters in flax_model.msgpack. All other files are CLIPModel's.

Facts: transformers 4.57.6 (modeling_flax_clip), the last version with Flax. Kernels are stored (in, out).
"""

from dataclasses import dataclass, replace

from cjkclip.checkpoints.formats.transformers import CLIP_MODEL
from cjkclip.checkpoints.layouts import Layout, Op, Row


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The names that a framework uses for leaves and blocks in the tree of CLIPModel's modules."""

    root: str
    block: str
    token: str
    position: str
    norm: tuple[str, str]  # weight, bias
    scale: Op


def tree_rows(tree: Tree) -> tuple[Row, ...]:
    """Return the rows of CLIPModel's parameters as paths in such a tree."""
    text, vision = f"{tree.root}text_model", f"{tree.root}vision_model"
    return (
        Row("logit_scale", f"{tree.root}logit_scale", tree.scale),
        Row("text.proj.weight", f"{tree.root}text_projection/kernel", "transpose"),
        Row("vision.proj.weight", f"{tree.root}visual_projection/kernel", "transpose"),
        Row("text.token.weight", f"{text}/embeddings/token_embedding/{tree.token}"),
        Row("text.position.weight", f"{text}/embeddings/position_embedding/{tree.position}"),
        Row("vision.cls", f"{vision}/embeddings/class_embedding"),
        Row("vision.patch.weight", f"{vision}/embeddings/patch_embedding/kernel", "hwio"),
        Row("vision.position.weight", f"{vision}/embeddings/position_embedding/{tree.position}"),
        *_norm(tree, "text.ln_final", f"{text}/final_layer_norm"),
        *_norm(tree, "vision.ln_pre", f"{vision}/pre_layrnorm"),  # the published spelling has no "e"
        *_norm(tree, "vision.ln_post", f"{vision}/post_layernorm"),
        *(row for part in ("text", "vision") for row in _block(tree, part)),
    )


def _block(tree: Tree, part: str) -> tuple[Row, ...]:
    ours, theirs = f"{part}.blocks.{{i}}", f"{tree.root}{part}_model/encoder/{tree.block}"
    linear = {f"attn.{n}": f"self_attn/{n}_proj" for n in ("q", "k", "v", "out")}
    linear |= {f"mlp.fc{n}": f"mlp/fc{n}" for n in "12"}
    return (
        *(Row(f"{ours}.{our}.weight", f"{theirs}/{their}/kernel", "transpose") for our, their in linear.items()),
        *(Row(f"{ours}.{our}.bias", f"{theirs}/{their}/bias") for our, their in linear.items()),
        *(row for n in "12" for row in _norm(tree, f"{ours}.ln{n}", f"{theirs}/layer_norm{n}")),
    )


def _norm(tree: Tree, ours: str, theirs: str) -> tuple[Row, ...]:
    weight, bias = tree.norm
    return Row(f"{ours}.weight", f"{theirs}/{weight}"), Row(f"{ours}.bias", f"{theirs}/{bias}")


FLAX_CLIP = replace(
    CLIP_MODEL,
    layout=Layout(
        name="flax",
        rows=tree_rows(
            Tree(
                root="",
                block="layers/{i}",
                token="embedding",
                position="embedding",
                norm=("scale", "bias"),
                scale="same",
            )
        ),
        marks=("text_model/final_layer_norm/scale", "vision_model/pre_layrnorm/scale", "logit_scale"),
        harmless=(),
    ),
    weights_file="flax_model.msgpack",
)
