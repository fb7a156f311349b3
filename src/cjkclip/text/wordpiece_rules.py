"""The rules of a WordPiece tokenizer as data, cn_clip's splitting of a text into words, and the Rust tokenizer.

transformers 5 splits words in Rust, whose Unicode tables are older than Python's. Besides the published differences,
it drops private and unassigned characters, and does not separate 256 ideographs of extension E. So cn_clip's words
are split in Python, with the tables that cn_clip itself uses.
"""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from cjkclip import records
from cjkclip.records import Limit

Style = Literal["cn_clip", "hf"]

_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)  # the blocks that BERT treats as ideographs, without later extensions


@dataclass(frozen=True, kw_only=True)
class WordPieceRules:
    """Rules that turn a text into ids. Special tokens are given as strings: the vocabulary has their ids.

    Both styles split words as BERT does. In "hf" a text may spell special tokens, and a word-final sigma becomes
    the common one (σ); in "cn_clip" brackets are punctuation, and the final sigma stays (ς).
    """

    style: Style
    context: Annotated[int, Limit("at least", 2)]  # length of a row, including start and end
    cls: str
    sep: str
    pad: str
    unk: str
    mask: str | None  # not looked up if None
    # a longer word is unknown; counted after decomposition, so a Hangul syllable is 2 or 3
    max_chars: Annotated[int, Limit("at least", 1)]
    lower: bool  # lower-case, and strip accents

    @property
    def specials(self) -> tuple[str, ...]:
        """The special tokens, each once."""
        names = (self.cls, self.sep, self.pad, self.unk, self.mask)
        return tuple(dict.fromkeys(name for name in names if name is not None))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "WordPieceRules":
        """Read data of `to_dict`. Raises FactsError for a field that is missing, unknown or does not fit."""
        return records.read(cls, data, "tokenizer rules")


CN_CLIP = WordPieceRules(
    style="cn_clip",
    context=52,
    cls="[CLS]",
    sep="[SEP]",
    pad="[PAD]",
    unk="[UNK]",
    mask="[MASK]",
    max_chars=200,
    lower=True,
)
HF = WordPieceRules(
    style="hf",
    context=52,
    cls="[CLS]",
    sep="[SEP]",
    pad="[PAD]",
    unk="[UNK]",
    mask="[MASK]",
    max_chars=100,
    lower=True,
)


class _Table(dict[int, str]):
    """Replacements of characters for str.translate, computed at first use."""

    def __init__(self, rule: Callable[[str], str]) -> None:
        super().__init__()
        self.rule = rule

    def __missing__(self, code: int) -> str:
        self[code] = replacement = self.rule(chr(code))
        return replacement


def _clean(c: str) -> str:
    """Return a space for white space, nothing for controls and U+FFFD, and spaces around an ideograph."""
    if c in "\t\n\r" or unicodedata.category(c) == "Zs":
        return " "
    if c == "\ufffd" or unicodedata.category(c) in ("Cc", "Cf"):
        return ""
    return f" {c} " if any(first <= ord(c) <= last for first, last in _IDEOGRAPHS) else c


def _separate(c: str) -> str:
    """Return spaces around punctuation, which includes every ASCII character but letters, digits and space."""
    plain = c.isalnum() or c == " " if c.isascii() else unicodedata.category(c)[0] != "P"
    return c if plain else f" {c} "


_CLEAN = _Table(_clean)
_ACCENTS = _Table(lambda c: "" if unicodedata.category(c) == "Mn" else c)
_SEPARATE = _Table(_separate)


def words(text: str, *, lower: bool) -> str:
    """Return the words into which cn_clip splits `text`, separated by spaces.

    >>> words("《红楼梦》Ｖ1.0 Café", lower=True)
    '《 红 楼 梦 》 ｖ1 . 0 cafe'
    """
    text = text.translate(_CLEAN)
    if lower:
        text = unicodedata.normalize("NFD", text.lower()).translate(_ACCENTS)
    return " ".join(text.translate(_SEPARATE).split())


def build(vocab: Mapping[str, int], rules: WordPieceRules) -> Any:
    """Return a `tokenizers.Tokenizer` that turns a text, or for "cn_clip" its words, into ids.

    It adds [CLS] and [SEP] only if requested.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    model = models.WordPiece(
        vocab=dict(vocab),
        unk_token=rules.unk,
        max_input_chars_per_word=rules.max_chars,
        continuing_subword_prefix="##",
    )
    rust = Tokenizer(model)
    rust.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    if rules.style == "cn_clip":
        rust.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return rust
    rust.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=rules.lower
    )
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.post_processor = processors.BertProcessing((rules.sep, vocab[rules.sep]), (rules.cls, vocab[rules.cls]))
    rust.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in rules.specials])
    return rust
