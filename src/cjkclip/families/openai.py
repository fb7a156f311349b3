"""OpenAI CLIP and what is trained in its image: ViT and modified-ResNet towers, byte-pair text.

Releases: github.com/openai/CLIP, MIT licence. The hub repositories are transformers conversions by OpenAI.
"""

from cjkclip.families import Family, Release
from cjkclip.formats.flax import FLAX_CLIP
from cjkclip.formats.openai import OPENAI_FORMATS
from cjkclip.formats.single import SINGLE_TOWERS
from cjkclip.formats.tensorflow import TF_CLIP
from cjkclip.formats.transformers import CLIP_MODEL


def _release(repo: str, *aliases: str) -> Release:
    note = f"OpenAI CLIP {aliases[0]}"
    return Release(name=repo, aliases=aliases, licence="mit", languages=("en",), note=note, facts={})


FAMILY = Family(
    name="openai",
    formats=(CLIP_MODEL, *OPENAI_FORMATS, *SINGLE_TOWERS, FLAX_CLIP, TF_CLIP),
    languages=("en",),
    templates={"en": ("a photo of a {}.",)},
    releases=(
        _release("openai/clip-vit-base-patch32", "ViT-B/32", "ViT-B-32"),
        _release("openai/clip-vit-base-patch16", "ViT-B/16", "ViT-B-16"),
        _release("openai/clip-vit-large-patch14", "ViT-L/14", "ViT-L-14"),
        _release("openai/clip-vit-large-patch14-336", "ViT-L/14@336px", "ViT-L-14-336"),
    ),
)
