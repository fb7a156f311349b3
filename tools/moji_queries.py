"""Print how often a query finds its picture in the bundled gallery, in several forms: `python -m tools.moji_queries`.

R@1 over the 1,379 names of each language, design "noto": with OpenAI's cleaning alone, and with the rules of moji.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np

import cjkclip
from cjkclip import moji

KATAKANA = {code: code + 0x60 for code in range(0x3041, 0x3097)}
HIRAGANA = {code + 0x60: code for code in range(0x3041, 0x3097)}
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "`。` behind": "{}。".format,
    "`.` behind": "{}.".format,
    "`!` behind": "{}!".format,
    "`？` behind": "{}？".format,
    "in `「」`": "「{}」".format,
    "`_` for spaces": lambda name: name.replace(" ", "_"),
    "its emoji behind": str,  # see below
    "plural (en)": lambda name: name + ("es" if name.endswith(("s", "x", "ch", "sh")) else "s"),
    "`a ` before (en)": "a {}".format,
    "katakana (ja)": lambda name: name.translate(KATAKANA),
    "hiragana (ja)": lambda name: name.translate(HIRAGANA),
}


def main() -> None:
    """Print a table in Markdown: before and after, per language."""
    clip = cjkclip.load("moji")
    tokenizer, concepts = cast(Any, clip.tokenizer), moji.concepts()
    cleanings = [tokenizer.under(replace(tokenizer.rules, cleaning=name)) for name in ("openai", "moji")]
    images = clip.encode_image([picture for _, picture in moji.gallery("noto")])

    def recall(queries: list[str]) -> str:
        shares: list[str] = []
        for one in cleanings:
            best = (clip.encode_tokens(one(queries)) @ images.T).argmax(axis=1)
            shares.append(f"{100 * np.mean(best == np.arange(len(queries))):.1f}")
        return " → ".join(shares)

    print(f"| form | {' | '.join(moji.LANGUAGES)} |\n|---|{'---|' * len(moji.LANGUAGES)}")
    for form, change in FORMS.items():
        cells: list[str] = []
        for language in moji.LANGUAGES:
            beside = "emoji" in form
            names = [change(each.names[language]) + (f" {each.char}" if beside else "") for each in concepts]
            cells.append("" if "(" in form and f"({language})" not in form else recall(names))
        print(f"| {form} | {' | '.join(cells)} |")
    print(f"| the emoji alone | {recall([each.char for each in concepts])} | | | | |")


if __name__ == "__main__":
    main()
