"""CLIP's modified ResNet in torch. B batch, C channels, N positions of the last map, E joint width.

Three convolutions in the stem, an average pool before a 1x1 convolution for every stride, attention pooling at the end.
The image size has to be a multiple of 32; otherwise the position table does not fit.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cjkclip.arrays import Float
from cjkclip.config import ResNet

EXPANSION = 4  # ratio of a bottleneck's output channels to its inner channels


class ConvBn(nn.Module):
    """Convolution without bias, followed by batch normalisation."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B c h2 w2"]:
        """Apply both; in evaluation mode the result is linear."""
        return self.bn(self.conv(x))


class Bottleneck(nn.Module):
    """1x1, 3x3, pool, 1x1 and a residual connection."""

    def __init__(self, channels_in: int, inner: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.reduce = ConvBn(channels_in, inner, 1)
        self.spatial = ConvBn(inner, inner, 3)
        self.expand = ConvBn(inner, inner * EXPANSION, 1)
        self.down = None
        if stride > 1 or channels_in != inner * EXPANSION:
            self.down = ConvBn(channels_in, inner * EXPANSION, 1)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B c h2 w2"]:
        """Apply the bottleneck."""
        y = F.relu(self.spatial(F.relu(self.reduce(x))))
        if self.stride > 1:
            x, y = F.avg_pool2d(x, self.stride), F.avg_pool2d(y, self.stride)
        return F.relu(self.expand(y) + (x if self.down is None else self.down(x)))


class AttentionPool(nn.Module):
    """Attention whose only query is the mean of the map."""

    def __init__(self, positions: int, width: int, heads: int, embed: int) -> None:
        super().__init__()
        self.heads = heads
        self.position = nn.Embedding(positions + 1, width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, embed)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B E"]:
        """Pool the map and project the result."""
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.position.weight
        query, key, value = (
            f(z).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for f, z in ((self.q, x[:, :1]), (self.k, x), (self.v, x))
        )
        x = F.scaled_dot_product_attention(query, key, value)  # B H 1 K
        return self.out(x.transpose(1, 2).flatten(1))


class ResNetTower(nn.Module):
    """Stem, four stages, attention pooling."""

    def __init__(self, config: ResNet, embed: int) -> None:
        super().__init__()
        width = config.width
        self.stem1 = ConvBn(3, width // 2, 3, stride=2)
        self.stem2 = ConvBn(width // 2, width // 2, 3)
        self.stem3 = ConvBn(width // 2, width, 3)
        channels = width
        for stage, blocks in enumerate(config.stages):
            inner, modules = width * 2**stage, list[Bottleneck]()
            for block in range(blocks):
                modules.append(Bottleneck(channels, inner, 2 if stage > 0 and block == 0 else 1))
                channels = inner * EXPANSION
            self.add_module(f"stage{stage + 1}", nn.Sequential(*modules))
        self.pool = AttentionPool((config.image_size // 32) ** 2, channels, config.heads, embed)

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B E"]:
        """Return un-normalised image features."""
        x = pixels
        for stem in (self.stem1, self.stem2, self.stem3):
            x = F.relu(stem(x))
        x = F.avg_pool2d(x, 2)
        for stage in range(1, 5):
            x = self.get_submodule(f"stage{stage}")(x)
        return self.pool(x)

    def initialise(self) -> None:
        """Fill the attention pooling with values scaled by its width; every residual branch starts at zero."""
        width = self.pool.q.in_features
        nn.init.normal_(self.pool.position.weight, std=width**-0.5)
        for linear in (self.pool.q, self.pool.k, self.pool.v, self.pool.out):
            nn.init.normal_(linear.weight, std=width**-0.5)
        for module in self.modules():
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.expand.bn.weight)
