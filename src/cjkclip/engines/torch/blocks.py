"""The parts of a transformer in torch: activations, attention, the two orders of a block. Letters as in towers.py."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cjkclip.arrays import Bool, Float
from cjkclip.config import Act, Encoder

Pick = Callable[[Tensor], Tensor] | None  # (B, L, D) -> (B, M, D)


class QuickGelu(nn.Module):
    """x sigmoid(1.702 x), the approximation that OpenAI's weights were trained with."""

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Elementwise."""
        return x * torch.sigmoid(1.702 * x)


def activation(act: Act) -> nn.Module:
    """The module of an activation's name."""
    return QuickGelu() if act == "quick_gelu" else nn.GELU()


class Attention(nn.Module):
    """Multi-head self-attention with separate q, k, v projections.

    `eager`: the probabilities are computed and pass through `probs`, where a hook sees them, instead of being fused
    away. `probs.p` is their dropout while training. On Apple's GPU they always are: torch's fused kernels there have
    given wrong numbers for heads that are not contiguous, and for masks (pytorch/pytorch#181133, #184180).
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
        asking: Float[Tensor, "B M D"] | None = None,
    ) -> Float[Tensor, "B M D"]:
        """Attend over L; `causal` hides every later token, `keep` those where it is false. Not both at once.

        `asking`: the M tokens that attend, where they are not all of x; not together with `causal`.
        """
        pairs = (self.q, x if asking is None else asking), (self.k, x), (self.v, x)
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
    """Softmax of the scaled scores, in float32. A row that keeps nothing is even, as it is in transformers."""
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if keep is not None:  # added, not filled in: an even row then has the gradients that it has there
        scores = scores + torch.zeros_like(keep, dtype=scores.dtype).masked_fill(~keep, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)


def below(length: int, device: torch.device) -> Bool[Tensor, "1 1 L L"]:
    """True where a token (row) may see another (column): itself and every earlier one."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]


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

    def forward(
        self, x: Float[Tensor, "B L D"], keep: Bool[Tensor, "B 1 _ L"] | None = None, pick: Pick = None
    ) -> Float[Tensor, "B M D"]:
        """One residual step. `keep` says all that may be seen: where it is given, `causal` is not read.

        `pick` takes the M tokens that are wanted from the L that are seen; without it they are all wanted.
        """
        y = self.ln1(x)
        asking = y
        if pick is not None:
            x, asking = pick(x), pick(y)
        x = x + self.attn(y, self.causal and keep is None, keep, asking)
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
        """One residual step. `pick` takes the M tokens that are wanted, if not all are."""
        asking = x if pick is None else pick(x)
        x = self.ln1(asking + self.drop(self.attn(x, keep=keep, asking=asking)))
        return self.ln2(x + self.drop(self.mlp(x)))
