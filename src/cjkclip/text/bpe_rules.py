"""The rules of a byte-pair tokenizer as data, and the Rust tokenizer built from them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from cjkclip import records
from cjkclip.records import Limit

Cleaning = Literal["openai", "hf", "moji"]

# transformers always uses OpenAI's spelling of the special tokens in its pattern, whatever their real spelling
_HF_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True, kw_only=True)
class BpeRules:
    """Rules that turn a text into ids. Special tokens are given as strings: the vocabulary has their ids.

    Cleaning "openai" repairs the text with ftfy, resolves HTML entities and lower-cases; "hf" composes (NFC)
    and lower-cases. open_clip cleans as OpenAI does and differs only in the spelling of start and end. "moji" cleans as
    OpenAI does, and then brings queries nearer to the captions of the bundled model (`text.queries`).
    """

    cleaning: Cleaning
    context: Annotated[int, Limit("at least", 2)]  # length of a row, including start and end
    sot: str
    eot: str
    pad: str
    unk: str | None  # replaces bytes that the vocabulary lacks; None: it must lack none
    folded: tuple[str, ...]  # "hf" only: special tokens that a text may spell in any case

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it."""
        return asdict(self) | {"folded": list(self.folded)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "BpeRules":
        """Read data of `to_dict`. Raises FactsError for a field that is missing, unknown or does not fit."""
        return records.read(cls, data, "tokenizer rules")


# OpenAI and open_clip put zeros after the end token, and id 0 of their vocabulary is "!"
OPENAI = BpeRules(
    cleaning="openai", context=77, sot="<|startoftext|>", eot="<|endoftext|>", pad="!", unk=None, folded=()
)
OPEN_CLIP = BpeRules(
    cleaning="openai", context=77, sot="<start_of_text>", eot="<end_of_text>", pad="!", unk=None, folded=()
)
HF = BpeRules(
    cleaning="hf",
    context=77,
    sot="<|startoftext|>",
    eot="<|endoftext|>",
    pad="<|endoftext|>",
    unk="<|endoftext|>",
    folded=(),
)


def word_pattern(rules: BpeRules) -> str:
    """Return the regular expression of one word, for Oniguruma.

    OpenAI's and open_clip's patterns ignore case. In lower-cased text this changes two characters: the long s (ſ)
    matches s, and U+0345, a mark related to iota, is in no class and so dropped.
    """
    if rules.cleaning == "hf":
        return _HF_WORDS
    specials = "|".join(re.escape(name).replace("s", "[sſ]") for name in (rules.sot, rules.eot))
    return rf"{specials}|'[sſ]|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}\u0345]+"


def build(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], rules: BpeRules) -> Any:
    """Return a `tokenizers.Tokenizer` that turns text into ids; it adds start and end only if requested.

    With cleaning "openai" it expects cleaned text, and splits but does not recognise the special tokens.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    hf = rules.cleaning == "hf"
    model = models.BPE(
        vocab=dict(vocab),
        merges=list(merges),
        unk_token=rules.unk,
        continuing_subword_prefix="",
        end_of_word_suffix="</w>",
    )
    rust = Tokenizer(model)
    split = pre_tokenizers.Split(Regex(word_pattern(rules)), behavior="removed", invert=True)
    # In transformers, ByteLevel splits the words a second time.
    rust.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=hf)]
    )
    rust.decoder = decoders.ByteLevel()
    rust.post_processor = processors.RobertaProcessing(
        (rules.eot, vocab[rules.eot]), (rules.sot, vocab[rules.sot]), trim_offsets=False, add_prefix_space=False
    )
    if hf:
        space = normalizers.Replace(Regex(r"\s+"), " ")
        rust.normalizer = normalizers.Sequence([normalizers.NFC(), space, normalizers.Lowercase()])
        names = dict.fromkeys(name for name in (rules.sot, rules.eot, rules.pad, rules.unk) if name is not None)
        rust.add_special_tokens([AddedToken(name, special=True, normalized=name in rules.folded) for name in names])
    return rust
