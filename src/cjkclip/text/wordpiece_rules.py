"""The rules of a WordPiece tokenizer as data, the words cn_clip cuts a text into, and the Rust tokenizer.

transformers 5 cuts words in Rust, whose tables of Unicode are older than Python's: next to the published
differences it drops private and unassigned characters, and does not set apart 256 ideographs of extension E.
So cn_clip's words are cut in Python, with the tables that cn_clip itself would read.

Refuses: rule records with a missing, unknown or unfit field.
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
)  # the blocks that BERT counts: later extensions are not among them


@dataclass(frozen=True, kw_only=True)
class WordPieceRules:
    """How a family turns a text into ids. Special tokens are given as spelled: the vocabulary has the ids.

    Both styles cut words as BERT does. In "hf" a text may spell special tokens, and a word-final sigma becomes
    the common one (σ); in "cn_clip" brackets are punctuation, and the final sigma stays (ς).
    """

    style: Style
    context: Annotated[int, Limit("at least", 2)]  # length of a row, start and end counted
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
        """Plain JSON data; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "WordPieceRules":
        """Read what `to_dict` wrote. Raises FactsError on a missing, unknown or unfit field."""
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
    """What becomes of a character, for str.translate; filled as characters turn up."""

    def __init__(self, rule: Callable[[str], str]) -> None:
        super().__init__()
        self.rule = rule

    def __missing__(self, code: int) -> str:
        self[code] = found = self.rule(chr(code))
        return found


def _clean(c: str) -> str:
    """White space is one blank, controls and U+FFFD are dropped, ideographs stand alone."""
    if c in "\t\n\r" or unicodedata.category(c) == "Zs":
        return " "
    if c == "\ufffd" or unicodedata.category(c) in ("Cc", "Cf"):
        return ""
    return f" {c} " if any(first <= ord(c) <= last for first, last in _IDEOGRAPHS) else c


def _apart(c: str) -> str:
    """Punctuation stands alone; every ASCII character that is no letter, digit or blank counts as such."""
    plain = c.isalnum() or c == " " if c.isascii() else unicodedata.category(c)[0] != "P"
    return c if plain else f" {c} "


_CLEAN = _Table(_clean)
_ACCENTS = _Table(lambda c: "" if unicodedata.category(c) == "Mn" else c)
_APART = _Table(_apart)


def words(text: str, *, lower: bool) -> str:
    """The words that cn_clip cuts `text` into, with a blank between.

    >>> words("《红楼梦》Ｖ1.0 Café", lower=True)
    '《 红 楼 梦 》 ｖ1 . 0 cafe'
    """
    text = text.translate(_CLEAN)
    if lower:
        text = unicodedata.normalize("NFD", text.lower()).translate(_ACCENTS)
    return " ".join(text.translate(_APART).split())


def build(vocab: Mapping[str, int], rules: WordPieceRules) -> Any:
    """A `tokenizers.Tokenizer` that turns a text, or for "cn_clip" its words, into ids.

    It adds [CLS] and [SEP] only when asked to.
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
