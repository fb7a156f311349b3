"""Korean CLIP in transformers' CLIPModel layout: OpenAI's architecture with a retrained byte-pair vocabulary.

Its training code writes students as VisionTextDualEncoderModel, which is read and written too.
Facts: the model card of Bingsu/clip-vit-base-patch32-ko. Its config has eos_token_id 2, so the text is pooled at the
largest id, and the end token must be the last of the vocabulary. `load` rejects a checkpoint where it is not.
"""

from cjkclip.checkpoints.families import Family, Release
from cjkclip.checkpoints.formats.dual import DUAL
from cjkclip.checkpoints.formats.flax import FLAX_CLIP
from cjkclip.checkpoints.formats.tensorflow import TF_CLIP
from cjkclip.checkpoints.formats.transformers import CLIP_MODEL

FAMILY = Family(
    name="koclip",
    formats=(CLIP_MODEL, *DUAL, FLAX_CLIP, TF_CLIP),
    languages=("ko", "en"),
    templates={"ko": ("{} 사진",), "en": ("a photo of a {}.",)},
    releases=(
        Release(
            name="Bingsu/clip-vit-base-patch32-ko",
            aliases=("clip-vit-base-patch32-ko",),
            layout="transformers",
            licence="mit",
            languages=("ko", "en"),
            note="Korean CLIP ViT-B/32",
            facts={},
        ),
    ),
)
