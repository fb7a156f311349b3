"""Train a CLIP-style byte-pair vocabulary on captions.

The ids have OpenAI's order: 512 byte symbols, one per merge, start, end. No text can be unknown, and the end token
is the largest id, which the pooling of published CLIP configurations relies on.
"""

import json
from collections.abc import Iterable

from cjkclip.errors import InputError
from cjkclip.text import check_texts
from cjkclip.text.bpe import Bpe
from cjkclip.text.bpe_files import END, Merge, base_symbols
from cjkclip.text.bpe_rules import BpeRules, build
from cjkclip.text.clean import clean


def train_bpe(texts: Iterable[str], vocab_size: int, rules: BpeRules, *, min_frequency: int = 2) -> Bpe:
    """Learn merges from `texts`, repeated ones counted each time, until there are `vocab_size` ids.

    The result has fewer ids if no remaining pair of symbols occurs `min_frequency` times. The same texts in any
    order give the same vocabulary. Raises InputError if `vocab_size` leaves no room for a merge.
    """
    from tokenizers import trainers

    base = base_symbols()
    if vocab_size < len(base) + 3:
        raise InputError(
            f"vocab_size is {vocab_size}, expected at least {len(base) + 3}: 512 byte symbols, a merge, start and end"
        )
    words = check_texts(texts)
    if rules.cleaning != "hf":
        words = [clean(text) for text in words]
    blank = {symbol: i for i, symbol in enumerate([*base, rules.sot, rules.eot])}
    rust = build(blank, [], rules)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        min_frequency=min_frequency,
        # As special tokens, the byte symbols get the first ids, in order. Ties between pairs are broken by id, and
        # the trainer would otherwise number the word-end symbols in the order of a hash table, which differs from
        # run to run.
        special_tokens=base,
        end_of_word_suffix=END,
        show_progress=False,
    )
    rust.train_from_iterator(words, trainer)
    model = json.loads(rust.to_str())["model"]
    merges: list[Merge] = [(a, b) for a, b in model["merges"]]
    size = len(model["vocab"])
    return Bpe(model["vocab"] | {rules.sot: size, rules.eot: size + 1}, merges, rules)
