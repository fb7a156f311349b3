"""CLIP's byte-pair tokenizer with OpenAI's, open_clip's or transformers' rules. The merging is done in Rust.

One class reads every published vocabulary; `BpeRules` contains the differences as data. The merge table in
clip_merges.txt.gz is OpenAI's (github.com/openai/CLIP, MIT licence, copyright (c) 2021 OpenAI; see
THIRD_PARTY_LICENSES); tools/clip_merges.py rebuilds it.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cjkclip.errors import CheckpointError, FactsError, TextError
from cjkclip.text import Tokens, Truncate, check_texts, pack
from cjkclip.text import bpe_files as files
from cjkclip.text.beginnings import longest, rows_of
from cjkclip.text.bpe_rules import HF, OPEN_CLIP, OPENAI, BpeRules, Cleaning, build, word_pattern
from cjkclip.text.clean import clean
from cjkclip.text.files import stated_rules
from cjkclip.text.queries import normal

__all__ = ["HF", "OPENAI", "OPEN_CLIP", "Bpe", "BpeRules", "clip_bpe"]


class Bpe:
    """A byte-pair vocabulary and the rules to apply it. Calling it returns `Tokens`.

    `sot`, `eot` and `pad` are ids. `lacking` are the byte symbols without an id. If there are any (a vocabulary
    retrained on one language), a text may contain unknown bytes, and the id for them may be `eot`.
    """

    def __init__(self, vocab: Mapping[str, int], merges: Sequence[files.Merge], rules: BpeRules) -> None:
        """Take symbols with their ids, and merges by rank.

        Raises CheckpointError if a special token, or a byte without a token for unknown bytes, is missing.
        """
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
                f"the vocabulary lacks {len(self.lacking)} of the 512 byte symbols, and the rules have no "
                "token for unknown bytes: pass rules with one, for example unk='<|endoftext|>'"
            )

    @classmethod
    def from_merges(cls, path: Path, rules: BpeRules) -> "Bpe":
        """Read a merge table in the format of bpe_simple_vocab_16e6.txt.gz; ids are positions."""
        merges = files.read_merges(path)
        return cls(files.openai_vocab(merges, rules.sot, rules.eot), merges, rules)

    @classmethod
    def from_transformers(cls, folder: Path, *, cleaning: Cleaning = "hf", context: int | None = None) -> "Bpe":
        """Read a transformers directory: tokenizer.json, or vocab.json and merges.txt, and the files of special tokens.

        `cleaning="hf"` gives the same ids as transformers, unless the directory contains cjkclip's own rules
        (`save_transformers(keep=True)`). Raises FactsError if the files do not state the context length.
        """
        vocab, merges = files.read_vocab(folder)
        own = stated_rules(folder)
        if own is not None:
            rules = BpeRules.from_dict(own)
            return cls(vocab, merges, replace(rules, context=context or rules.context))
        specials = files.read_specials(folder, vocab)
        context = context or specials.context
        if context is None:
            raise FactsError(
                f"{folder}: tokenizer_config.json has no valid model_max_length: pass the context length, "
                "for example context=77"
            )
        tokens = {name: getattr(specials, name) for name in ("sot", "eot", "pad", "unk", "folded")}
        return cls(vocab, merges, BpeRules(cleaning=cleaning, context=context, **tokens))

    @classmethod
    def load(cls, folder: Path, rules: BpeRules) -> "Bpe":
        """Read the files that `save` writes."""
        return cls(*files.read_vocab(folder), rules)

    def under(self, rules: BpeRules) -> "Bpe":
        """Return the same vocabulary and ids with other rules, which may spell start and end differently."""
        names = {self.rules.sot: rules.sot, self.rules.eot: rules.eot}
        vocab = {names.get(symbol, symbol): i for symbol, i in self.vocab.items()}
        if len(vocab) != len(self.vocab):
            raise CheckpointError(
                f"{rules.sot!r} or {rules.eot!r} is already another symbol of this vocabulary: choose other spellings"
            )
        return Bpe(vocab, self.merges, rules)

    def __call__(self, texts: Sequence[str], *, truncate: Truncate = "cut", context: int | None = None) -> Tokens:
        """Return ids of n texts as `Tokens` of length `context` (None: the rules'): start, text, end, padding.

        Raises TextError if a text is not a valid string, or, with truncate="error", is too long.
        """
        context = context or self.context
        rows = rows_of(check_texts(texts), self.rows, context, self._longest)
        rows = [[self.sot, *row, self.eot] for row in rows]
        return pack(rows, context=context, pad=self.pad, truncate=truncate)

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return ids of texts without start and end, uncut. Raises TextError if one is not a valid string."""
        texts = check_texts(texts)
        if self.rules.cleaning == "hf":
            return [row.ids for row in self._rust.encode_batch_fast(texts, add_special_tokens=False)]
        texts = list(map(normal if self.rules.cleaning == "moji" else clean, texts))
        rows = self._rust.encode_batch_fast(texts, add_special_tokens=False)
        names = (self.rules.sot, self.rules.eot)
        return [
            self._encode_spelled(text) if any(name in text for name in names) else row.ids
            for text, row in zip(texts, rows, strict=True)
        ]

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Return the first character of each id of `rows` in its text, and the one after its last. Raises TextError."""
        if self.rules.cleaning != "hf":
            raise TextError(
                f"the rules clean texts ({self.rules.cleaning!r}) before they are read, so ids have no places"
            )
        return [row.offsets for row in self._rust.encode_batch(check_texts(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the cleaned text of `ids`: a space follows every word, special tokens appear as spelled.

        >>> clip_bpe().decode([3306, 1002, 256])
        'hello world ! '
        """
        unknown = [i for i in ids if i not in self._symbols]
        if unknown:
            raise TextError(
                f"id {unknown[0]} is not in this vocabulary of {self.vocab_size} ids: use ids of this tokenizer"
            )
        byte_of = files.byte_of()
        symbols = "".join(self._symbols[i] for i in ids)
        data = b"".join(bytes((byte_of[c],)) if c in byte_of else c.encode() for c in symbols)
        return data.decode("utf-8", "replace").replace(files.END, " ")

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, which `load` reads together with the rules.

        The file describes transformers' cleaning and words, so the tokenizers library can use it alone.
        """
        folder.mkdir(parents=True, exist_ok=True)
        data = build(self.vocab, self.merges, self._transformers_rules).to_str(pretty=False)
        files.write_text(folder / "tokenizer.json", data)

    def save_transformers(self, folder: Path, *, keep: bool = False) -> None:
        """Write transformers' files: tokenizer.json, vocab.json, merges.txt and tokenizer_config.json.

        OpenAI's and open_clip's rules are replaced by transformers' own spelling of start and end, and padding. With
        `keep`, an extra key contains them, which `from_transformers` reads and transformers ignores.
        """
        own = self.rules.cleaning != "hf"
        if own and not keep:
            self.under(replace(HF, context=self.context)).save_transformers(folder)
            return
        self.save(folder)
        files.write_vocab(folder, self.vocab, self.merges)
        rules = self._transformers_rules if own else self.rules
        roles = {"bos": rules.sot, "eos": rules.eot, "pad": rules.pad, "unk": rules.unk}
        tokens = {role: name for role, name in roles.items() if name is not None}
        files.write_config(folder, tokens, rules.folded, self.context, self.rules.to_dict() if own else None)

    @property
    def _transformers_rules(self) -> BpeRules:
        """The rules as far as transformers' files can express them."""
        # The padding "!" is an ordinary word too, so it must not be treated as a special token in texts.
        pad = self.rules.pad if self.rules.cleaning == "hf" else self.rules.eot
        return replace(self.rules, cleaning="hf", pad=pad, unk=self.rules.unk or self.rules.eot)

    def _encode_spelled(self, text: str) -> list[int]:
        """Return ids of a cleaned text that spells a special token, which counts only as a whole word."""
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
    def _longest(self) -> int:
        return longest(self.vocab)

    @functools.cached_property
    def _symbols(self) -> dict[int, str]:
        return {i: symbol for symbol, i in self.vocab.items()}

    def _special(self, name: str) -> int:
        if name not in self.vocab:
            raise CheckpointError(
                f"the vocabulary of {len(self.vocab)} symbols does not contain the special token {name!r}: "
                "use rules whose special tokens it contains"
            )
        return self.vocab[name]


@functools.cache
def clip_bpe(rules: BpeRules = OPENAI) -> Bpe:
    """Return the bundled CLIP vocabulary (49,408 ids) with `rules`."""
    bpe = Bpe.from_merges(Path(__file__).with_name("clip_merges.txt.gz"), replace(OPENAI, context=rules.context))
    return bpe.under(rules)
