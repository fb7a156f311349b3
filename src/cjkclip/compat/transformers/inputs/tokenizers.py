"""transformers' tokenizer classes for CLIP and BERT, and one for sentencepiece: see `tokenization` for the methods."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from cjkclip.compat.sources import require_known
from cjkclip.compat.transformers.inputs.tokenization import SPIECE, UNLIMITED, PathLike, PreTrainedTokenizer
from cjkclip.errors import InputError
from cjkclip.text import bpe_files, wordpiece_files
from cjkclip.text.bpe import HF, Bpe
from cjkclip.text.files import read_json
from cjkclip.text.unigram import RINNA, Unigram
from cjkclip.text.wordpiece import HF as BERT
from cjkclip.text.wordpiece import WordPiece


class CLIPTokenizer(PreTrainedTokenizer):
    """CLIP's byte-pair tokenizer."""

    def __init__(
        self, vocab_file: PathLike, merges_file: PathLike, *, model_max_length: int = UNLIMITED, **options: Any
    ) -> None:
        """Read vocab.json and merges.txt. Options: the texts of bos_token, eos_token, unk_token, pad_token; errors."""
        require_known(
            options, (*(f"{role}_token" for role in ("bos", "eos", "unk", "pad")), "errors"), type(self).__name__
        )
        if options.get("errors", "replace") != "replace":
            raise InputError(
                f"errors is {options['errors']!r}, expected 'replace': bytes that are not UTF-8 are always replaced"
            )
        tokens = {role: options.get(f"{role}_token") for role in ("bos", "eos", "unk", "pad")}
        rules = replace(
            HF,
            context=model_max_length,
            sot=tokens["bos"] or HF.sot,
            eot=tokens["eos"] or HF.eot,
            unk=tokens["unk"] or HF.unk,
            pad=tokens["pad"] or HF.pad,
        )
        vocab, merges = read_json(Path(vocab_file)), bpe_files.read_merges(Path(merges_file), at_most=10**9)
        self._take(Bpe(vocab, merges, rules), model_max_length)

    @classmethod
    def _read(cls, folder: Path, length: int) -> Bpe:
        return Bpe.from_transformers(folder, context=length)

    def _specials(self) -> dict[str, str | None]:
        rules = cast(Bpe, self.core).rules
        return {"bos": rules.sot, "eos": rules.eot, "unk": rules.unk or rules.eot, "pad": rules.pad}

    def build_inputs_with_special_tokens(self, a: Sequence[int], b: Sequence[int] | None = None) -> list[int]:
        """Return [bos] a [eos], or [bos] a [eos] [eos] b [eos]."""
        core = cast(Bpe, self.core)
        return [core.sot, *a, core.eot, *(() if b is None else (core.eot, *b, core.eot))]

    def save_vocabulary(self, save_directory: PathLike, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write vocab.json and merges.txt, which the constructor and `from_pretrained` read; return their paths."""
        core = cast(Bpe, self.core)
        return tuple(
            map(
                str,
                bpe_files.write_vocab(
                    _folder(save_directory), core.vocab, core.merges, prefix=_prefix(filename_prefix)
                ),
            )
        )


class BertTokenizer(PreTrainedTokenizer):
    """BERT's WordPiece tokenizer."""

    model_input_names = ("input_ids", "token_type_ids", "attention_mask")

    def __init__(
        self, vocab_file: PathLike, do_lower_case: bool = True, *, model_max_length: int = UNLIMITED, **options: Any
    ) -> None:
        """Read vocab.txt. Options: the texts of cls_token, sep_token, pad_token, unk_token, mask_token."""
        require_known(options, [f"{role}_token" for role in wordpiece_files.ROLES], type(self).__name__)
        tokens = {name.removesuffix("_token"): token for name, token in options.items()}
        rules = replace(BERT, lower=do_lower_case, context=model_max_length, **tokens)
        self._take(WordPiece.from_vocab(Path(vocab_file), rules), model_max_length)

    @classmethod
    def _read(cls, folder: Path, length: int) -> WordPiece:
        return WordPiece.from_transformers(folder, context=length)

    def _specials(self) -> dict[str, str | None]:
        return {role: getattr(self.core.rules, role) for role in ("unk", "sep", "pad", "cls", "mask")}

    def build_inputs_with_special_tokens(self, a: Sequence[int], b: Sequence[int] | None = None) -> list[int]:
        """Return [CLS] a [SEP], or [CLS] a [SEP] b [SEP]."""
        core = cast(WordPiece, self.core)
        return [core.cls, *a, core.sep, *(() if b is None else (*b, core.sep))]

    def create_token_type_ids_from_sequences(self, a: Sequence[int], b: Sequence[int] | None = None) -> list[int]:
        """Return 0 for [CLS], the first text and its [SEP], 1 for the second text and its [SEP]."""
        return [0] * (len(a) + 2) + ([] if b is None else [1] * (len(b) + 1))

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return the text of tokens, without spaces before punctuation."""
        from tokenizers import decoders

        return decoders.WordPiece(prefix="##", cleanup=True).decode(list(tokens))

    def save_vocabulary(self, save_directory: PathLike, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write vocab.txt, which the constructor and `from_pretrained` read; return its path."""
        prefix = _prefix(filename_prefix)
        return (str(wordpiece_files.write_vocab(_folder(save_directory), self.core.vocab, prefix=prefix)),)


class SentencePieceTokenizer(PreTrainedTokenizer):
    """rinna's sentencepiece tokenizer: lower case, [CLS] first, no end token. transformers has no class for it."""

    longest = RINNA.context

    @classmethod
    def _read(cls, folder: Path, length: int) -> Unigram:
        return Unigram.from_file(folder / SPIECE, replace(RINNA, context=length))

    def _specials(self) -> dict[str, str | None]:
        return dict(cast(Unigram, self.core).roles)

    def build_inputs_with_special_tokens(self, a: Sequence[int], b: Sequence[int] | None = None) -> list[int]:
        """Return [CLS] a. Raises InputError for a second text."""
        if b is not None:
            raise InputError("got a and b, but rinna's models read one text, not two: leave b (text_pair) out")
        front = cast(Unigram, self.core).cls
        return [*([] if front is None else [front]), *a]

    def save_vocabulary(self, save_directory: PathLike, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write spiece.model, which `from_pretrained` reads; return its path."""
        path = _folder(save_directory) / f"{_prefix(filename_prefix)}{SPIECE}"
        path.write_bytes(cast(Unigram, self.core).model)
        return (str(path),)


CLIPTokenizerFast, BertTokenizerFast = CLIPTokenizer, BertTokenizer


def _folder(path: PathLike) -> Path:
    if not Path(path).is_dir():
        raise InputError(f"{path} is not an existing directory: create it first with os.makedirs({str(path)!r})")
    return Path(path)


def _prefix(name: str | None) -> str:
    return f"{name}-" if name else ""
