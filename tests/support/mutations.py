"""Random but repeatable damage to the bytes of a file."""

import random


def mutate(rng: random.Random, content: bytes) -> bytes:
    """Cut, flip, drop, double or move a few bytes, mostly near both ends, where the structure is."""
    if not content or rng.random() < 0.2:
        return content[: rng.randrange(len(content) or 1)]
    spoilt = bytearray(content)
    for _ in range(min(len(spoilt) // 8 or 1, rng.choice((1, 1, 2, 8)))):
        near = rng.randrange(min(len(spoilt), 1200))
        at = rng.choice((near, len(spoilt) - 1 - near, rng.randrange(len(spoilt))))
        kind = rng.randrange(4)
        if kind == 0:
            spoilt[at] = rng.randrange(256)
        elif kind == 1:
            spoilt[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del spoilt[at : at + rng.randrange(1, 9)]
        else:
            spoilt[at:at] = spoilt[rng.randrange(len(spoilt)) :][: rng.randrange(1, 9)]
    return bytes(spoilt)


def blocks(rng: random.Random, content: bytes) -> bytes:
    """Zero, fill, drop, swap, double or insert whole ranges of bytes."""
    a, b = sorted(rng.randrange(len(content) + 1) for _ in "ab")
    c, d = sorted((b + rng.randrange(len(content) - b + 1), b + rng.randrange(len(content) - b + 1)))
    middle = content[a:b]
    return rng.choice(
        (
            content[:a] + bytes(b - a) + content[b:],
            content[:a] + b"\xff" * (b - a) + content[b:],
            content[:a] + content[b:],
            content[:a] + content[c:d] + content[b:c] + middle + content[d:],
            content[:b] + middle + content[b:],
            content[:a] + rng.randbytes(rng.randrange(1, 5000)) + content[a:],
        )
    )


def near(rng: random.Random, content: bytes, signs: tuple[bytes, ...]) -> bytes:
    """Change a few bytes near an occurrence of one of `signs`: often sizes, counts and offsets."""
    sign = rng.choice(signs)
    places: list[int] = []
    at = content.find(sign)
    while at >= 0 and len(places) < 400:
        places.append(at)
        at = content.find(sign, at + 1)
    if not places:
        return mutate(rng, content)
    spoilt = bytearray(content)
    for _ in range(rng.choice((1, 1, 3))):
        at = max(0, min(len(spoilt) - 8, rng.choice(places) + rng.randrange(-16, 64)))
        width = rng.choice((1, 2, 4, 8))
        value = rng.choice((0, 1, 0x7F, 0xFF, 1 << 15, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1))
        value = rng.choice((value, rng.getrandbits(8 * width), len(content), len(content) - at))
        spoilt[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, rng.choice(("little", "big")))
    return bytes(spoilt)
