"""The family of the bundled model, moji, and of every other directory in cjkclip's own layout."""

from cjkclip.checkpoints.families import Family, Release
from cjkclip.checkpoints.formats.native import NATIVE

FAMILY = Family(
    name="moji",
    formats=NATIVE,
    languages=("zh", "zh-Hant", "ja", "ko", "en"),
    templates={},
    releases=(
        Release(
            name="moji",
            aliases=(),
            layout="cjkclip",
            licence="apache-2.0",
            languages=("zh", "zh-Hant", "ja", "ko", "en"),
            note="bundled: small pictures of 1,121 concepts, five languages",
            facts={},
        ),
    ),
)
