"""The towers in torch, for training and GPUs. B batch, L tokens, D width, H heads, K head width, E joint width.

The names of `Towers.state_dict()` are the canonical parameter names. One Block serves every transformer; towers differ
in config fields, never in code. A tower is three steps that callers may also call separately: `states` (of every
token), `pool` (select the token that the head reads), `proj`. Images must have the size of the position table, unless
`states` is called with stretch=True.
"""

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cjkclip.arrays import Bool, Float, Int
from cjkclip.config import Bert, Model, PooledVit, Text, Vit
from cjkclip.engines.torch.blocks import Block, Pick, PostBlock, below
from cjkclip.engines.torch.resnet import ResNetTower
from cjkclip.parameters import shapes


def first(states: Float[Tensor, "B L D"]) -> Float[Tensor, "B 1 D"]:
    """Return the class token."""
    return states[:, :1]


def through(
    blocks: nn.ModuleList, x: Float[Tensor, "B L D"], keep: Bool[Tensor, "B 1 _ L"] | None, pick: Pick = None
) -> Float[Tensor, "B M D"]:
    """Apply every block in turn; the last computes only the tokens that `pick` selects. The list may be empty."""
    last = len(blocks) - 1
    for number, block in enumerate(blocks):
        x = block(x, keep, pick) if number == last else block(x, keep)
    return x if pick is None or blocks else pick(x)


def at(states: Float[Tensor, "B L D"], index: Int[Tensor, "B M"]) -> Float[Tensor, "B M D"]:
    """Return the tokens of each text at `index`."""
    return states[torch.arange(states.shape[0], device=states.device)[:, None], index]


class VitTower(nn.Module):
    """Vision transformer: patches to tokens after a class token, blocks, class token out, projection."""

    def __init__(self, config: Vit, embed: int) -> None:
        super().__init__()
        tokens = (config.image_size // config.patch) ** 2 + 1
        self.patch = nn.Conv2d(3, config.width, config.patch, config.patch, bias=config.patch_bias)
        self.cls = nn.Parameter(torch.empty(config.width))
        self.position = nn.Embedding(tokens, config.width)
        self.ln_pre = nn.LayerNorm(config.width, config.eps) if config.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(config, causal=False) for _ in range(config.depth))
        self.ln_post = nn.LayerNorm(config.width, config.eps)
        self.pooler = nn.Linear(config.width, config.width) if isinstance(config, PooledVit) else None
        self.proj = nn.Linear(config.width, embed, bias=False) if config.project else nn.Identity()

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B E"]:
        """Return un-normalised image features. The last block computes only the class token."""
        return self.proj(self.pool(self.states(pixels, pick=first)))

    def states(
        self, pixels: Float[Tensor, "B 3 h w"], stretch: bool = False, pick: Pick = None
    ) -> Float[Tensor, "B M D"]:
        """Return the class token and every patch after the last block, or the tokens that `pick` selects.

        `stretch`: interpolate the positions to fit another image size.
        """
        x = self.patch(pixels)
        table = self._stretched(x.shape[2], x.shape[3]) if stretch else self.position.weight
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1) + table
        x = self.ln_pre(x)
        return through(self.blocks, x, None, pick)

    def pool(self, states: Float[Tensor, "B L D"]) -> Float[Tensor, "B D"]:
        """Return the class token, layer-normalised, through the pooler if the model has one."""
        x = self.ln_post(states[:, 0])
        return x if self.pooler is None else torch.tanh(self.pooler(x))

    def _stretched(self, rows: int, columns: int) -> Float[Tensor, "L D"]:
        """Return the position table for this number of patches, by bicubic interpolation."""
        side = math.isqrt(self.position.num_embeddings - 1)
        if (rows, columns) == (side, side):
            return self.position.weight
        grid = self.position.weight[1:].T.reshape(1, -1, side, side)
        grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)[0]
        return torch.cat([self.position.weight[:1], grid.flatten(1).T])


class TextTower(nn.Module):
    """Causal transformer whose head reads the end-of-text token."""

    def __init__(self, config: Text, embed: int) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocab, config.width)
        self.position = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config, causal=True) for _ in range(config.depth))
        self.ln_final = nn.LayerNorm(config.width, config.eps)
        self.proj = nn.Linear(config.width, embed, bias=False) if config.project else nn.Identity()

    def forward(self, ids: Int[Tensor, "B L"], mask: Int[Tensor, "B L"] | None = None) -> Float[Tensor, "B E"]:
        """Return un-normalised text features. Padding needs no mask, since it follows the token that the head reads."""
        del mask
        end = self.end(ids)
        x = self.embed(ids)
        for block in self.blocks[:-1]:
            x = block(x)
        keep = torch.arange(ids.shape[1], device=ids.device) <= end[:, None]
        x = self.blocks[-1](x, keep[:, None, None], partial(at, index=end[:, None]))
        return self.proj(self.ln_final(x[:, 0]))

    def states(
        self,
        ids: Int[Tensor, "B L"],
        mask: Int[Tensor, "B L"] | None = None,
        positions: Int[Tensor, "_ L"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """Return every token after the last block, layer-normalised. No token attends to tokens where `mask` is 0."""
        x = self.embed(ids, positions)
        keep = None if mask is None else mask.bool()[:, None, None] & below(ids.shape[1], ids.device)
        return self.ln_final(through(self.blocks, x, keep))

    def embed(self, ids: Int[Tensor, "B L"], positions: Int[Tensor, "_ L"] | None = None) -> Float[Tensor, "B L D"]:
        """Return token embeddings plus position embeddings."""
        return self.token(ids) + (
            self.position.weight[: ids.shape[1]] if positions is None else self.position(positions)
        )

    def end(self, ids: Int[Tensor, "B L"]) -> Int[Tensor, "B"]:
        """Return the index of the token of each text that the head reads: its end-of-text token."""
        return (ids if self.config.pool == "largest-id" else (ids == self.config.eot).int()).argmax(dim=1)

    def pool(self, states: Float[Tensor, "B L D"], ids: Int[Tensor, "B L"]) -> Float[Tensor, "B D"]:
        """Return the token at the end of each text."""
        return at(states, self.end(ids)[:, None])[:, 0]


class BertTower(nn.Module):
    """Bidirectional transformer whose head reads the first token. Dropouts are 0 unless a caller sets their `p`."""

    def __init__(self, config: Bert, embed: int) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocab, config.width)
        self.position = nn.Embedding(config.context + config.start, config.width)
        self.segment = nn.Embedding(config.types, config.width)
        self.ln_embed = nn.LayerNorm(config.width, config.eps)
        self.drop = nn.Dropout(0.0)
        self.blocks = nn.ModuleList(PostBlock(config) for _ in range(config.depth))
        self.pooler = self.proj = None
        if config.head != "project":
            self.pooler = nn.Linear(config.width, config.width)
        if config.head != "pooler":
            self.proj = nn.Linear(config.width, embed, bias=config.head == "classify")

    def forward(self, ids: Int[Tensor, "B L"], mask: Int[Tensor, "B L"]) -> Float[Tensor, "B E"]:
        """Return un-normalised text features; `mask` is 1 for tokens and 0 for padding."""
        x = self.pool(self.states(ids, mask, pick=first))
        return x if self.proj is None else self.proj(x)

    def states(
        self,
        ids: Int[Tensor, "B L"] | Float[Tensor, "B L D"],
        mask: Int[Tensor, "B L"] | None = None,
        positions: Int[Tensor, "_ L"] | None = None,
        types: Int[Tensor, "_ L"] | None = None,
        pick: Pick = None,
    ) -> Float[Tensor, "B M D"]:
        """Return every token after the last block, or those that `pick` selects. `ids` may also be token embeddings."""
        start = self.config.start
        table = self.position.weight[start : start + ids.shape[1]] if positions is None else self.position(positions)
        table = table + (self.segment.weight[0] if types is None else self.segment(types))
        x = self.drop(self.ln_embed((ids if ids.is_floating_point() else self.token(ids)) + table))
        keep = None if mask is None else mask.bool()[:, None, None]
        return through(self.blocks, x, keep, pick)

    def pool(self, states: Float[Tensor, "B L D"], ids: Tensor | None = None) -> Float[Tensor, "B D"]:
        """Return the first token, through the pooler if the model has one."""
        del ids
        return states[:, 0] if self.pooler is None else torch.tanh(self.pooler(states[:, 0]))


class Towers(nn.Module):
    """Both towers and logit_scale, which is a logarithm, as published, or None if the model has no such parameter."""

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
    """Build the towers of a config, with `params` (all canonical names) or newly initialised.

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
