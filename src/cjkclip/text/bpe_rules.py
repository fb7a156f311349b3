"""The rules of a byte-pair tokenizer as data, and the Rust tokenizer built from them.

Refuses: rule records with a missing, unknown or unfit field.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from cjkclip import records
from cjkclip.records import Limit

Cleaning = Literal["openai", "hf"]

# transformers spells the specials in its pattern as OpenAI does, whatever they are
_HF_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True, kw_only=True)
class BpeRules:
    """How a family turns a text into ids. Special tokens are given as spelled: the vocabulary has the ids.

    Cleaning "openai" mends the text with ftfy, resolves HTML entities and lower-cases; "hf" composes (NFC)
    and lower-cases. open_clip cleans as OpenAI does and differs only in the spelling of start and end.
    """

    cleaning: Cleaning
    context: Annotated[int, Limit("at least", 2)]  # length of a row, start and end counted
    sot: str
    eot: str
    pad: str
    unk: str | None  # stands for bytes the vocabulary lacks; None: it must lack none
    folded: tuple[str, ...]  # "hf" only: specials that a text may spell in any case

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `from_dict` reads it back."""
        return asdict(self) | {"folded": list(self.folded)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "BpeRules":
        """Read what `to_dict` wrote. Raises FactsError on a missing, unknown or unfit field."""
        return records.read(cls, data, "tokenizer rules")


# OpenAI and open_clip leave zeros behind the end token, and id 0 of their vocabulary is "!"
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
    """The regular expression of one word, for Oniguruma.

    OpenAI's and open_clip's ignore case. In lower-cased text two characters show it: the long s (ſ) passes
    for an s, and U+0345, a mark kin to iota, is in no class and so dropped.
    """
    if rules.cleaning == "hf":
        return _HF_WORDS
    specials = "|".join(re.escape(name).replace("s", "[sſ]") for name in (rules.sot, rules.eot))
    return rf"{specials}|'[sſ]|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}\u0345]+"


def build(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], rules: BpeRules) -> Any:
    """A `tokenizers.Tokenizer` that turns text into ids, without start and end unless asked for.

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
    # transformers lets ByteLevel split the words once more
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
