"""Write the table of all 1,914 emoji for training and evaluation: names, keywords, folds, and designs of each.

`in_splits` marks the 1,379 concepts of the published numbers. A variant (`core` false) has the fold of its `base`, so
that no image of a test concept is used in training.
"""

import json
from collections.abc import Mapping

from tools.moji_data.captions import LANGUAGES, Captions
from tools.moji_data.concepts import Emoji, split
from tools.moji_data.packages import CACHE


def write_table(
    emoji: list[Emoji], captions: Captions, icons_of: Mapping[str, Mapping[str, str]], concepts: set[str]
) -> None:
    """Write `.cache/moji/concepts.json`: one record per emoji, concepts and variants."""
    records = [
        {
            "cp": e.cp,
            "char": e.char,
            "name": {lang: captions[lang][e.cp][0] for lang in LANGUAGES},
            "keywords": {lang: captions[lang][e.cp][1] for lang in LANGUAGES},
            "core": e.core,
            "in_splits": e.cp in concepts,
            "base": e.base,
            "fold": e.fold,
            "split": split(e.fold),
            "group": e.group,
            "designs": [design for design, icons in icons_of.items() if e.cp in icons],
        }
        for e in emoji
    ]
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "concepts.json").write_text(json.dumps(records, ensure_ascii=False, indent=1) + "\n")
