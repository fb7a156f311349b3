"""OpenAI CLIP and models of the same architecture: ViT and modified-ResNet towers, byte-pair text.

Releases: github.com/openai/CLIP, MIT licence. The hub repositories are transformers conversions by OpenAI. The
ResNets were published as files only, whose URLs contain their sha256.
"""

from cjkclip.checkpoints.families import Family, Release
from cjkclip.checkpoints.formats.flax import FLAX_CLIP
from cjkclip.checkpoints.formats.open_clip import OPEN_CLIP_FORMATS
from cjkclip.checkpoints.formats.openai import OPENAI_FORMAT
from cjkclip.checkpoints.formats.single import SINGLE_TOWERS
from cjkclip.checkpoints.formats.tensorflow import TF_CLIP
from cjkclip.checkpoints.formats.transformers import CLIP_MODEL

FILES = "https://openaipublic.azureedge.net/clip/models"


def _release(name: str, *aliases: str, sha256: str = "") -> Release:
    """Return a repository in transformers' layout, or with a checksum OpenAI's file of that name."""
    return Release(
        name=name,
        aliases=(f"openai/{name}",) if sha256 else aliases,
        layout="openai" if sha256 else "transformers",
        licence="mit",
        languages=("en",),
        note=f"OpenAI CLIP {name if sha256 else aliases[0]}",
        facts={},
        url=f"{FILES}/{sha256}/{name}.pt#sha256={sha256}" if sha256 else None,
    )


FAMILY = Family(
    name="openai",
    formats=(CLIP_MODEL, *OPEN_CLIP_FORMATS, *OPENAI_FORMAT, *SINGLE_TOWERS, FLAX_CLIP, TF_CLIP),
    languages=("en",),
    templates={"en": ("a photo of a {}.",)},
    releases=(
        _release("openai/clip-vit-base-patch32", "ViT-B/32", "ViT-B-32"),
        _release("openai/clip-vit-base-patch16", "ViT-B/16", "ViT-B-16"),
        _release("openai/clip-vit-large-patch14", "ViT-L/14", "ViT-L-14"),
        _release("openai/clip-vit-large-patch14-336", "ViT-L/14@336px", "ViT-L-14-336"),
        _release("RN50", sha256="afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),
        _release("RN101", sha256="8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599"),
        _release("RN50x4", sha256="7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd"),
        _release(
            "RN50x16", "openai/RN50x16", sha256="52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa"
        ),
        _release(
            "RN50x64", "openai/RN50x64", sha256="be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c"
        ),
    ),
)
