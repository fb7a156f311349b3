"""CLIP's byte-pair tokenizer, by OpenAI's, open_clip's or transformers' rules. The merging is done in Rust.

One class reads every published vocabulary; what differs stands in `BpeRules`, as data. The merge table that
ships in clip_merges.txt.gz is OpenAI's (github.com/openai/CLIP, MIT licence, copyright (c) 2021 OpenAI; the
licence text is in THIRD_PARTY_LICENSES); tools/clip_merges.py rebuilds it.

Refuses: vocabularies without the special tokens that the rules name; vocabularies that lack bytes, unless the
rules name a token for the unknown; damaged files.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cjkclip.errors import CheckpointError, FactsError, TextError
from cjkclip.text import Tokens, Truncate, check_texts, pack
from cjkclip.text import bpe_files as files
from cjkclip.text.bpe_rules import HF, OPEN_CLIP, OPENAI, BpeRules, Cleaning, build, word_pattern
from cjkclip.text.clean import clean
from cjkclip.text.files import stated_rules

__all__ = ["HF", "OPENAI", "OPEN_CLIP", "Bpe", "BpeRules", "clip_bpe"]


class Bpe:
    """A byte-pair vocabulary and the rules to apply it. Calling it gives `Tokens`.

    `sot`, `eot` and `pad` are ids. `lacking` are the byte symbols without an id: where there are any (a
    vocabulary retrained on one language), a text may hold unknown bytes, and their id may well be `eot`.
    """

    def __init__(self, vocab: Mapping[str, int], merges: Sequence[files.Merge], rules: BpeRules) -> None:
        """Symbols with their ids, and merges by rank. Raises CheckpointError if the rules do not fit."""
        self.rules = rules
        self.vocab = dict(vocab)
        self.merges = list(merges)
        self.context = rules.context
        self.vocab_size = max(self.vocab.values(), default=-1) + 1
        self.sot, self.eot, self.pad = (self._special(name) for name in (rules.sot, rules.eot, rules.pad))
        self.lacking = tuple(symbol for symbol in files.base_symbols() if symbol not in self.vocab)
        if rules.unk is not None:
            self._special(rules.unk)
        elif self.lacking:
            raise CheckpointError(
                f"the vocabulary lacks {len(self.lacking)} of the 512 byte symbols, and its rules name no "
                "token for the unknown: give `unk`"
            )

    @classmethod
    def from_merges(cls, path: Path, rules: BpeRules) -> "Bpe":
        """Read a merge table in the layout of bpe_simple_vocab_16e6.txt.gz; its ids are positions."""
        merges = files.read_merges(path)
        return cls(files.openai_vocab(merges, rules.sot, rules.eot), merges, rules)

    @classmethod
    def from_transformers(cls, folder: Path, *, cleaning: Cleaning = "hf", context: int | None = None) -> "Bpe":
        """Read a transformers folder: tokenizer.json, or vocab.json and merges.txt, and what names specials.

        `cleaning="hf"` gives transformers' own ids, but where `save_transformers` was asked to keep other rules.
        Raises FactsError if nothing tells the context length.
        """
        vocab, merges = files.read_vocab(folder)
        own = stated_rules(folder)
        if own is not None:
            rules = BpeRules.from_dict(own)
            return cls(vocab, merges, replace(rules, context=context or rules.context))
        specials = files.read_specials(folder, vocab)
        context = context or specials.context
        if context is None:
            raise FactsError(f"{folder}: no model_max_length in tokenizer_config.json: give `context`")
        named = {name: getattr(specials, name) for name in ("sot", "eot", "pad", "unk", "folded")}
        return cls(vocab, merges, BpeRules(cleaning=cleaning, context=context, **named))

    @classmethod
    def load(cls, folder: Path, rules: BpeRules) -> "Bpe":
        """Read what `save` wrote."""
        return cls(*files.read_vocab(folder), rules)

    def under(self, rules: BpeRules) -> "Bpe":
        """The same vocabulary under other rules, which may spell start and end differently; ids stay."""
        names = {self.rules.sot: rules.sot, self.rules.eot: rules.eot}
        vocab = {names.get(symbol, symbol): i for symbol, i in self.vocab.items()}
        if len(vocab) != len(self.vocab):
            raise CheckpointError(f"{rules.sot!r} or {rules.eot!r} is another symbol in this vocabulary")
        return Bpe(vocab, self.merges, rules)

    def __call__(self, texts: Sequence[str], *, truncate: Truncate = "cut", context: int | None = None) -> Tokens:
        """Ids of n texts as `Tokens` of length `context` (None: the rules'): start, the text, end, padding.

        Raises TextError if a text is not a valid string, or, with truncate="error", is too long.
        """
        rows = [[self.sot, *row, self.eot] for row in self.rows(texts)]
        return pack(rows, context=context or self.context, pad=self.pad, truncate=truncate)

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts between start and end, uncut. Raises TextError if one is not a valid string."""
        texts = check_texts(texts)
        if self.rules.cleaning == "hf":
            return [row.ids for row in self._rust.encode_batch_fast(texts, add_special_tokens=False)]
        texts = [clean(text) for text in texts]
        rows = self._rust.encode_batch_fast(texts, add_special_tokens=False)
        names = (self.rules.sot, self.rules.eot)
        return [
            self._spelled(text) if any(name in text for name in names) else row.ids
            for text, row in zip(texts, rows, strict=True)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """The cleaned text of `ids`: a space follows every word, special tokens appear as spelled.

        >>> clip_bpe().decode([3306, 1002, 256])
        'hello world ! '
        """
        unknown = [i for i in ids if i not in self._symbols]
        if unknown:
            raise TextError(f"id {unknown[0]} is not in this vocabulary of {self.vocab_size} ids")
        byte_of = files.byte_of()
        symbols = "".join(self._symbols[i] for i in ids)
        data = b"".join(bytes((byte_of[c],)) if c in byte_of else c.encode() for c in symbols)
        return data.decode("utf-8", "replace").replace(files.END, " ")

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, which `load` reads together with the rules.

        The file states transformers' cleaning and words, so that the tokenizers library can use it alone.
        """
        folder.mkdir(parents=True, exist_ok=True)
        data = build(self.vocab, self.merges, self._stated).to_str(pretty=False)
        files.write_text(folder / "tokenizer.json", data)

    def save_transformers(self, folder: Path, *, keep: bool = False) -> None:
        """Write what transformers reads: tokenizer.json, vocab.json, merges.txt and tokenizer_config.json.

        OpenAI's and open_clip's rules become transformers' own: its spelling of start and end, its padding. With
        `keep` they stand beside these, where `from_transformers` finds them and transformers looks for nothing.
        """
        own = self.rules.cleaning == "openai"
        if own and not keep:
            self.under(replace(HF, context=self.context)).save_transformers(folder)
            return
        self.save(folder)
        files.write_vocab(folder, self.vocab, self.merges)
        rules = self._stated if own else self.rules
        roles = {"bos": rules.sot, "eos": rules.eot, "pad": rules.pad, "unk": rules.unk}
        named = {role: name for role, name in roles.items() if name is not None}
        files.write_config(folder, named, rules.folded, self.context, self.rules.to_dict() if own else None)

    @property
    def _stated(self) -> BpeRules:
        """The rules as far as files of transformers can say them."""
        # as padding "!" is an ordinary word: it must not be cut out of texts like a special token
        pad = self.rules.pad if self.rules.cleaning == "hf" else self.rules.eot
        return replace(self.rules, cleaning="hf", pad=pad, unk=self.rules.unk or self.rules.eot)

    def _spelled(self, text: str) -> list[int]:
        """Ids of a cleaned text that spells a special token, which counts only where it is a whole word."""
        from tokenizers import Regex, pre_tokenizers

        words = pre_tokenizers.Split(Regex(word_pattern(self.rules)), behavior="removed", invert=True)
        ids: list[int] = []
        start = 0
        for word, (begin, end) in words.pre_tokenize_str(text):
            if word in (self.rules.sot, self.rules.eot):
                ids += [*self._rust.encode(text[start:begin], add_special_tokens=False).ids, self.vocab[word]]
                start = end
        return ids + self._rust.encode(text[start:], add_special_tokens=False).ids

    @functools.cached_property
    def _rust(self) -> Any:
        return build(self.vocab, self.merges, self.rules)

    @functools.cached_property
    def _symbols(self) -> dict[int, str]:
        return {i: symbol for symbol, i in self.vocab.items()}

    def _special(self, name: str) -> int:
        if name not in self.vocab:
            raise CheckpointError(f"the vocabulary of {len(self.vocab)} symbols does not hold the special {name!r}")
        return self.vocab[name]


@functools.cache
def clip_bpe(rules: BpeRules = OPENAI) -> Bpe:
    """The published CLIP vocabulary (49,408 ids), which comes with the package, under `rules`."""
    bpe = Bpe.from_merges(Path(__file__).with_name("clip_merges.txt.gz"), replace(OPENAI, context=rules.context))
    return bpe.under(rules)
