"""The towers in torch, for training and GPUs. B batch, L tokens, D width, H heads, K head width, E joint width.

The names of `Towers.state_dict()` are the canonical parameter names. One Block serves every transformer; towers
differ in config fields, never in code. Refuses: pictures of another size than the position table was made for.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cjkclip.config import Act, Bert, Encoder, Model, Text, Vit
from cjkclip.engines.torch.resnet import ResNetTower
from cjkclip.parameters import shapes


class QuickGelu(nn.Module):
    """x sigmoid(1.702 x), the approximation that OpenAI's weights were trained with."""

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Elementwise."""
        return x * torch.sigmoid(1.702 * x)


def activation(act: Act) -> nn.Module:
    """The module of an activation's name."""
    return QuickGelu() if act == "quick_gelu" else nn.GELU()


class Attention(nn.Module):
    """Multi-head self-attention with separate q, k, v projections."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(
        self, x: Float[Tensor, "B L D"], causal: bool = False, keep: Bool[Tensor, "B 1 1 L"] | None = None
    ) -> Float[Tensor, "B L D"]:
        """Attend over L; `causal` hides every later token, `keep` those where it is false."""
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        x = F.scaled_dot_product_attention(q, k, v, keep, is_causal=causal)  # B H L K
        return self.out(x.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers around an activation."""

    def __init__(self, config: Encoder) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.mlp)
        self.act = activation(config.act)
        self.fc2 = nn.Linear(config.mlp, config.width)

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Token by token."""
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: Encoder, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.ln1 = nn.LayerNorm(config.width, config.eps)
        self.attn = Attention(config.width, config.heads)
        self.ln2 = nn.LayerNorm(config.width, config.eps)
        self.mlp = Mlp(config)

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """One residual step."""
        x = x + self.attn(self.ln1(x), self.causal)
        return x + self.mlp(self.ln2(x))


class PostBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + mlp(x)): the order of BERT."""

    def __init__(self, config: Encoder) -> None:
        super().__init__()
        self.attn = Attention(config.width, config.heads)
        self.ln1 = nn.LayerNorm(config.width, config.eps)
        self.mlp = Mlp(config)
        self.ln2 = nn.LayerNorm(config.width, config.eps)

    def forward(self, x: Float[Tensor, "B L D"], keep: Bool[Tensor, "B 1 1 L"]) -> Float[Tensor, "B L D"]:
        """One residual step."""
        x = self.ln1(x + self.attn(x, keep=keep))
        return self.ln2(x + self.mlp(x))


class VitTower(nn.Module):
    """Patches to tokens, class token first, transformer, class token out, projection."""

    def __init__(self, config: Vit, embed: int) -> None:
        super().__init__()
        tokens = (config.image_size // config.patch) ** 2 + 1
        self.patch = nn.Conv2d(3, config.width, config.patch, config.patch, bias=config.patch_bias)
        self.cls = nn.Parameter(torch.empty(config.width))
        self.position = nn.Embedding(tokens, config.width)
        self.ln_pre = nn.LayerNorm(config.width, config.eps) if config.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(config, causal=False) for _ in range(config.depth))
        self.ln_post = nn.LayerNorm(config.width, config.eps)
        self.proj = nn.Linear(config.width, embed, bias=False) if config.project else nn.Identity()

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B E"]:
        """Un-normalised image features."""
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.to(x.dtype).expand(len(x), 1, -1), x], dim=1) + self.position.weight
        x = self.ln_pre(x)
        for block in self.blocks:
            x = block(x)
        return self.proj(self.ln_post(x[:, 0]))


class TextTower(nn.Module):
    """Causal transformer, read at the end-of-text token."""

    def __init__(self, config: Text, embed: int) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocab, config.width)
        self.position = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config, causal=True) for _ in range(config.depth))
        self.ln_final = nn.LayerNorm(config.width, config.eps)
        self.proj = nn.Linear(config.width, embed, bias=False) if config.project else nn.Identity()

    def forward(self, ids: Int[Tensor, "B L"], mask: Int[Tensor, "B L"] | None = None) -> Float[Tensor, "B E"]:
        """Un-normalised text features. Pads need no mask: they follow the token that is read."""
        del mask
        x = self.token(ids) + self.position.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        x = self.ln_final(x)
        found = ids if self.config.pool == "largest-id" else (ids == self.config.eot).int()
        return self.proj(x[torch.arange(len(x), device=x.device), found.argmax(dim=1)])


class BertTower(nn.Module):
    """Bidirectional transformer, read at its first token. No dropout: none is active in evaluation."""

    def __init__(self, config: Bert, embed: int) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocab, config.width)
        self.position = nn.Embedding(config.context, config.width)
        self.segment = nn.Embedding(config.types, config.width)
        self.ln_embed = nn.LayerNorm(config.width, config.eps)
        self.blocks = nn.ModuleList(PostBlock(config) for _ in range(config.depth))
        self.pooler = self.proj = None
        if config.head != "project":
            self.pooler = nn.Linear(config.width, config.width)
        if config.head != "pooler":
            self.proj = nn.Linear(config.width, embed, bias=config.head == "classify")

    def forward(self, ids: Int[Tensor, "B L"], mask: Int[Tensor, "B L"]) -> Float[Tensor, "B E"]:
        """Un-normalised text features; `mask` is 1 where a token is kept."""
        positions = self.position.weight[: ids.shape[1]] + self.segment.weight[0]
        x = self.ln_embed(self.token(ids) + positions)
        for block in self.blocks:
            x = block(x, mask.bool()[:, None, None])
        x = x[:, 0]
        if self.pooler is not None:
            x = torch.tanh(self.pooler(x))
        return x if self.proj is None else self.proj(x)


class Towers(nn.Module):
    """Both towers and the logit scale (a logarithm, as published; None where the model has no such parameter)."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.config = config
        self.vision = self.text = None
        if config.vision is not None:
            kind = VitTower if isinstance(config.vision, Vit) else ResNetTower
            self.vision = kind(config.vision, config.embed)  # pyright: ignore[reportArgumentType]
        if config.text is not None:
            kind = TextTower if isinstance(config.text, Text) else BertTower
            self.text = kind(config.text, config.embed)  # pyright: ignore[reportArgumentType]
        self.logit_scale = nn.Parameter(torch.tensor(0.0)) if "logit_scale" in shapes(config) else None


def build(config: Model, params: Mapping[str, Tensor] | None = None) -> Towers:
    """Towers of a config: with `params` (canonical names, every one of them) or freshly initialised.

    Initial values follow OpenAI's CLIP: facts of its model code at commit d05afc4.
    """
    with torch.device("meta"):
        towers = Towers(config)
    if params is None:
        towers.to_empty(device="cpu")
        initialise(towers)
    else:
        towers.load_state_dict(dict(params), assign=True)
    return towers


@torch.no_grad()
def initialise(towers: Towers) -> None:
    """Fill every parameter and buffer in place, as OpenAI's CLIP does."""
    for module in towers.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.LayerNorm | nn.BatchNorm2d):
            module.reset_parameters()
    if towers.logit_scale is not None:
        towers.logit_scale.fill_(math.log(1 / 0.07))
    if isinstance(towers.vision, VitTower):
        std = towers.vision.cls.numel() ** -0.5
        for tensor in (towers.vision.cls, towers.vision.position.weight, *towers.vision.proj.parameters()):
            nn.init.normal_(tensor, std=std)
        _initialise_blocks(towers.vision.blocks)
    elif isinstance(towers.vision, ResNetTower):
        towers.vision.initialise()
    if isinstance(towers.text, BertTower):
        for module in towers.text.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
    elif towers.text is not None:
        nn.init.normal_(towers.text.token.weight, std=0.02)
        nn.init.normal_(towers.text.position.weight, std=0.01)
        for tensor in towers.text.proj.parameters():
            nn.init.normal_(tensor, std=towers.text.config.width**-0.5)
        _initialise_blocks(towers.text.blocks)


def _initialise_blocks(blocks: nn.ModuleList) -> None:
    for block in blocks:
        assert isinstance(block, Block)
        width, residual = block.ln1.normalized_shape[0], (2 * len(blocks)) ** -0.5
        for linear in (block.attn.q, block.attn.k, block.attn.v):
            nn.init.normal_(linear.weight, std=width**-0.5)
            nn.init.zeros_(linear.bias)
        nn.init.normal_(block.attn.out.weight, std=width**-0.5 * residual)
        nn.init.zeros_(block.attn.out.bias)
        nn.init.normal_(block.mlp.fc1.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(block.mlp.fc2.weight, std=width**-0.5 * residual)
