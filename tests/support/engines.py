"""Configs of tiny models, one for each kind of tower, and random parameters for them."""

import dataclasses

import numpy as np

from cjkclip.config import Bert, Model, ResNet, Text, Vit
from cjkclip.parameters import shapes

TEXT = Text(
    width=16,
    depth=2,
    heads=2,
    mlp=32,
    act="gelu",
    eps=1e-5,
    vocab=50,
    context=9,
    pool="first-eot",
    eot=49,
    project=True,
)
VIT = Vit(
    patch_bias=False,
    pre_norm=True,
    project=True,
    width=24,
    depth=2,
    heads=3,
    mlp=48,
    act="quick_gelu",
    eps=1e-5,
    image_size=32,
    patch=8,
)
RESNET = ResNet(image_size=64, width=8, stages=(1, 2, 1, 1), heads=4)
MODELS = {
    "vit": Model(vision=VIT, text=TEXT, image=None, embed=12, scale=None),
    "resnet": Model(vision=RESNET, text=TEXT, image=None, embed=12, scale=None),
}
BERT = Bert(width=16, depth=2, heads=2, mlp=32, act="gelu", eps=1e-12, vocab=50, context=9, types=2, head="project")
HF_VIT = dataclasses.replace(VIT, patch_bias=True, pre_norm=False, act="gelu")
for head in ("project", "pooler", "pooler-project", "classify"):
    bert = dataclasses.replace(BERT, head=head)
    MODELS[f"bert-{head}"] = Model(vision=HF_VIT, text=bert, image=None, embed=16, scale=None)


def random_params(model: Model) -> dict[str, np.ndarray]:
    """Return the same random parameters at each call, with positive variances."""
    rng = np.random.default_rng(7)
    params = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes(model).items()}
    for name, array in params.items():
        if name.endswith("running_var"):
            params[name] = np.abs(array) + np.float32(0.5)
        if name.endswith("num_batches_tracked"):
            params[name] = np.array(3)
    return params
