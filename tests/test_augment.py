"""Random changes to pictures: shape, range, repeatability; what may be mirrored."""

import numpy as np
import pytest
import torch

from cjkclip.train.augment import augment, plain
from cjkclip.train.recipes import moji
from support.drawn import OFF, STRONG, shapes


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("size", [32, 24])
def test_augmentation_keeps_shape_and_range_and_repeats(channels, size):
    pictures = torch.from_numpy(shapes()[:, :channels]).float() / 255
    mirror = torch.tensor([True, False] * 4)
    one, same, other = (
        augment(pictures, size, STRONG, torch.Generator().manual_seed(seed), mirror) for seed in (5, 5, 6)
    )
    assert one.shape == (8, 3, size, size)
    assert 0 <= float(one.min()) <= float(one.max()) <= 1
    assert torch.equal(one, same)
    assert not torch.allclose(one, other, atol=0.1)


def test_augmentation_switched_off_changes_nothing():
    pictures = torch.from_numpy(shapes()).float() / 255
    still = augment(pictures, 32, OFF, torch.Generator().manual_seed(0), torch.zeros(8, dtype=torch.bool))
    assert torch.allclose(still, plain(pictures), atol=1e-5)


def test_only_pictures_that_may_be_mirrored_are():
    pictures = torch.from_numpy(np.repeat(shapes()[:1], 64, axis=0)).float() / 255
    mirror = torch.arange(64) < 32
    changed = augment(pictures, 32, OFF, torch.Generator().manual_seed(0), mirror)
    flipped = torch.tensor(
        [torch.allclose(c, plain(p[None])[0].flip(-1), atol=1e-4) for c, p in zip(changed, pictures, strict=True)]
    )
    assert 8 <= int(flipped[:32].sum()) <= 24
    assert not flipped[32:].any()


def test_what_has_a_hand_is_not_mirrored():
    for name in ("backhand index pointing right", "left-facing fist", "waning crescent moon", "chart decreasing"):
        assert not moji.mirrors(name, "Objects"), name
    assert not moji.mirrors("input latin letters", "Symbols")
    assert moji.mirrors("sailboat", "Travel & Places")
