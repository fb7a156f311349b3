"""Parts of a transformer in torch: activations, attention, pre-norm and post-norm blocks. Letters as in towers.py."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cjkclip.arrays import Bool, Float
from cjkclip.config import Act, Encoder

Pick = Callable[[Tensor], Tensor] | None  # (B, L, D) -> (B, M, D)


class QuickGelu(nn.Module):
    """x sigmoid(1.702 x), the approximation of GELU that OpenAI's weights were trained with."""

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Apply it to each element."""
        return x * torch.sigmoid(1.702 * x)


def activation(act: Act) -> nn.Module:
    """Return the module for the name of an activation."""
    return QuickGelu() if act == "quick_gelu" else nn.GELU()


class Attention(nn.Module):
    """Multi-head self-attention with separate q, k, v projections.

    `eager`: the probabilities are computed explicitly and pass through `probs`, where a hook can read them, instead of
    inside a fused kernel. `probs.p` is their dropout in training. An Apple GPU always computes them so: torch's fused
    kernels there returned wrong numbers for non-contiguous heads and for masks (pytorch/pytorch#181133, #184180).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.eager = heads, False
        self.probs = nn.Dropout(0.0)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        causal: bool = False,
        keep: Bool[Tensor, "B 1 _ L"] | None = None,
        queries: Float[Tensor, "B M D"] | None = None,
    ) -> Float[Tensor, "B M D"]:
        """Attend over L. `causal` masks every later token, `keep` the tokens where it is false; pass only one of them.

        `queries`: the M tokens that attend, if not all of x; not together with `causal`.
        """
        pairs = (self.q, x if queries is None else queries), (self.k, x), (self.v, x)
        q, k, v = (f(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f, y in pairs)
        if self.eager or x.device.type == "mps":
            x = self.probs(probabilities(q, k, below(x.shape[1], x.device) if causal else keep)) @ v
        else:
            dropout = self.probs.p if self.training else 0.0
            x = F.scaled_dot_product_attention(q, k, v, keep, dropout, is_causal=causal)  # B H M K
        return self.out(x.transpose(1, 2).flatten(2))


def probabilities(
    q: Float[Tensor, "B H M K"], k: Float[Tensor, "B H L K"], keep: Bool[Tensor, "#B 1 _ L"] | None
) -> Float[Tensor, "B H M L"]:
    """Return the softmax of the scaled scores, in float32. A fully masked row is uniform, as in transformers."""
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if keep is not None:  # added, not filled in: a uniform row then has the same gradients as in transformers
        scores = scores + torch.zeros_like(keep, dtype=scores.dtype).masked_fill(~keep, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)


def below(length: int, device: torch.device) -> Bool[Tensor, "1 1 L L"]:
    """Return the causal mask: true where a token (row) may attend to another (column), itself or an earlier one."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]


class Mlp(nn.Module):
    """Two linear layers around an activation."""

    def __init__(self, config: Encoder) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.mlp)
        self.act = activation(config.act)
        self.fc2 = nn.Linear(config.mlp, config.width)

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Apply it to each token."""
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

    def forward(
        self, x: Float[Tensor, "B L D"], keep: Bool[Tensor, "B 1 _ L"] | None = None, pick: Pick = None
    ) -> Float[Tensor, "B M D"]:
        """Apply the block. `keep` is the whole mask: if it is given, `causal` is ignored.

        `pick` selects the M tokens to compute from the L tokens that they attend to; without it all are computed.
        """
        y = self.ln1(x)
        queries = y
        if pick is not None:
            x, queries = pick(x), pick(y)
        x = x + self.attn(y, self.causal and keep is None, keep, queries)
        return x + self.mlp(self.ln2(x))


class PostBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + mlp(x)): the order of BERT."""

    def __init__(self, config: Encoder) -> None:
        super().__init__()
        self.attn = Attention(config.width, config.heads)
        self.ln1 = nn.LayerNorm(config.width, config.eps)
        self.mlp = Mlp(config)
        self.ln2 = nn.LayerNorm(config.width, config.eps)
        self.drop = nn.Dropout(0.0)

    def forward(
        self, x: Float[Tensor, "B L D"], keep: Bool[Tensor, "B 1 _ L"] | None, pick: Pick = None
    ) -> Float[Tensor, "B M D"]:
        """Apply the block. `pick` selects the M tokens to compute; without it all are computed."""
        queries = x if pick is None else pick(x)
        x = self.ln1(queries + self.drop(self.attn(x, keep=keep, queries=queries)))
        return self.ln2(x + self.drop(self.mlp(x)))
