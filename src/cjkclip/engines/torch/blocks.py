"""The parts of a transformer in torch: activations, attention, the two orders of a block. Letters as in towers.py."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from cjkclip.config import Act, Encoder


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
    away. `probs.p` is their dropout while training.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.eager = heads, False
        self.probs = nn.Dropout(0.0)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(
        self, x: Float[Tensor, "B L D"], causal: bool = False, keep: Bool[Tensor, "B 1 _ L"] | None = None
    ) -> Float[Tensor, "B L D"]:
        """Attend over L; `causal` hides every later token, `keep` those where it is false. Not both at once."""
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.eager:
            x = self.probs(probabilities(q, k, below(x.shape[1], x.device) if causal else keep)) @ v
        else:
            dropout = self.probs.p if self.training else 0.0
            x = F.scaled_dot_product_attention(q, k, v, keep, dropout, is_causal=causal)  # B H L K
        return self.out(x.transpose(1, 2).flatten(2))


def probabilities(
    q: Float[Tensor, "B H L K"], k: Float[Tensor, "B H L K"], keep: Bool[Tensor, "#B 1 _ L"] | None
) -> Float[Tensor, "B H L L"]:
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

    def forward(self, x: Float[Tensor, "B L D"], keep: Bool[Tensor, "B 1 _ L"] | None = None) -> Float[Tensor, "B L D"]:
        """One residual step. `keep` says all that may be seen: where it is given, `causal` is not read."""
        x = x + self.attn(self.ln1(x), self.causal and keep is None, keep)
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

    def forward(self, x: Float[Tensor, "B L D"], keep: Bool[Tensor, "B 1 _ L"] | None) -> Float[Tensor, "B L D"]:
        """One residual step."""
        x = self.ln1(x + self.drop(self.attn(x, keep=keep)))
        return self.ln2(x + self.drop(self.mlp(x)))
