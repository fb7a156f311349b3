"""BERT's WordPiece tokenizer with cn_clip's or transformers' rules. The pieces are matched in Rust.

One class reads every published vocabulary; `WordPieceRules` contains the differences as data. The vocabulary in
bert_vocab_zh.txt.gz is that of Google's bert-base-chinese (github.com/google-research/bert, Apache-2.0,
see THIRD_PARTY_LICENSES), which Chinese-CLIP and Taiyi-CLIP use; tools/bert_vocab.py rebuilds it.
"""

import functools
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cjkclip.errors import CheckpointError, TextError
from cjkclip.text import Tokens, Truncate, check_texts, pack
from cjkclip.text import wordpiece_files as files
from cjkclip.text.beginnings import longest, rows_of
from cjkclip.text.files import stated_rules, write_text
from cjkclip.text.wordpiece_rules import CN_CLIP, HF, WordPieceRules, build, words

__all__ = ["CN_CLIP", "HF", "WordPiece", "WordPieceRules", "chinese_bert"]


class WordPiece:
    """A WordPiece vocabulary and the rules to apply it. Calling it returns `Tokens`.

    `cls`, `sep`, `pad` and `unk` are ids.
    """

    def __init__(self, vocab: Mapping[str, int], rules: WordPieceRules) -> None:
        """Take pieces with their ids. Raises CheckpointError if a special token of the rules is missing."""
        self.rules = rules
        self.vocab = dict(vocab)
        self.context = rules.context
        self.vocab_size = max(self.vocab.values(), default=-1) + 1
        missing = [name for name in rules.specials if name not in self.vocab]
        if missing:
            raise CheckpointError(
                f"the vocabulary of {len(self.vocab)} pieces does not contain the special token {missing[0]!r}: "
                "use rules whose special tokens it contains"
            )
        self.cls, self.sep, self.pad, self.unk = (
            self.vocab[name] for name in (rules.cls, rules.sep, rules.pad, rules.unk)
        )

    @classmethod
    def from_vocab(cls, path: Path, rules: WordPieceRules) -> "WordPiece":
        """Read a vocab.txt: one piece per line, gzipped or not."""
        return cls(files.read_vocab_txt(path), rules)

    @classmethod
    def from_transformers(cls, folder: Path, *, context: int | None = None) -> "WordPiece":
        """Read a transformers directory: tokenizer.json, or vocab.txt, and tokenizer_config.json.

        Gives the same ids as BertTokenizer, unless the directory contains cjkclip's own rules
        (`save_transformers(keep=True)`). Raises CheckpointError for unsupported options that change ids, FactsError
        if the files do not state the context length.
        """
        own = stated_rules(folder)
        if own is not None:
            rules = WordPieceRules.from_dict(own)
            return cls(files.read_vocab(folder), replace(rules, context=context or rules.context))
        return cls(*files.read_transformers(folder, context))

    @classmethod
    def load(cls, folder: Path, rules: WordPieceRules) -> "WordPiece":
        """Read the file that `save` writes."""
        return cls(files.read_vocab(folder), rules)

    def under(self, rules: WordPieceRules) -> "WordPiece":
        """Return the same vocabulary with other rules."""
        return WordPiece(self.vocab, rules)

    def __call__(self, texts: Sequence[str], *, truncate: Truncate = "cut", context: int | None = None) -> Tokens:
        """Return ids of n texts as `Tokens` of length `context` (None: the rules'): [CLS], text, [SEP], padding.

        Raises TextError if a text is not a valid string, or, with truncate="error", is too long.
        """
        context = context or self.context
        rows = rows_of(check_texts(texts), self.rows, context, self._longest)
        rows = [[self.cls, *row, self.sep] for row in rows]
        return pack(rows, context=context, pad=self.pad, truncate=truncate)

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return ids of texts without [CLS] and [SEP], uncut. Raises TextError if one is not a valid string."""
        texts = check_texts(texts)
        if self.rules.style == "cn_clip":
            texts = [words(text, lower=self.rules.lower) for text in texts]
        return [row.ids for row in self._rust.encode_batch_fast(texts, add_special_tokens=False)]

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Return the first character of each id of `rows` in its text, and the one after its last. Raises TextError."""
        if self.rules.style == "cn_clip":
            raise TextError("the rules of cn_clip split texts into words before they are read, so ids have no places")
        return [row.offsets for row in self._rust.encode_batch(check_texts(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the words of `ids` separated by spaces; special tokens appear as spelled, Hangul is composed.

        >>> chinese_bert().decode([3345, 2225, 7991, 12847, 9032, 288, 10787, 13484])
        '杰 尼 龟 clip 김'
        """
        unknown = [i for i in ids if i not in self._pieces]
        if unknown:
            raise TextError(
                f"id {unknown[0]} is not in this vocabulary of {self.vocab_size} ids: use ids of this tokenizer"
            )
        text = " ".join(self._pieces[i] for i in ids).replace(" ##", "")
        return unicodedata.normalize("NFC", text)

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, which `load` reads together with the rules.

        The file describes transformers' way of splitting words, so the tokenizers library can use it alone.
        """
        folder.mkdir(parents=True, exist_ok=True)
        data = build(self.vocab, replace(self.rules, style="hf")).to_str(pretty=False)
        write_text(folder / "tokenizer.json", data)

    def save_transformers(self, folder: Path, *, keep: bool = False) -> None:
        """Write transformers' files: vocab.txt, tokenizer_config.json and special_tokens_map.json.

        cn_clip's rules are replaced by transformers' own, which the files cannot change: style "hf", 100 characters per
        word. With `keep`, an extra key contains them for `from_transformers`, and tokenizer.json is written as well.
        """
        own = keep and (self.rules.style, self.rules.max_chars) != (HF.style, HF.max_chars)
        files.write_transformers(folder, self.vocab, self.rules, own=own)
        if own:
            self.save(folder)  # replaces a file that another tokenizer may have left

    @functools.cached_property
    def _rust(self) -> Any:
        return build(self.vocab, self.rules)

    @functools.cached_property
    def _longest(self) -> int:
        return longest(self.vocab)

    @functools.cached_property
    def _pieces(self) -> dict[int, str]:
        return {i: piece for piece, i in self.vocab.items()}


@functools.cache
def chinese_bert(rules: WordPieceRules = CN_CLIP) -> WordPiece:
    """Return the bundled Chinese vocabulary of BERT (21,128 ids) with `rules`."""
    if rules != CN_CLIP:
        return chinese_bert().under(rules)
    return WordPiece.from_vocab(Path(__file__).with_name("bert_vocab_zh.txt.gz"), CN_CLIP)
