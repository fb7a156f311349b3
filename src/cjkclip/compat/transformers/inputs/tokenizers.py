"""transformers' tokenizer classes for CLIP and BERT, and one for sentencepiece: see `tokenization` for the methods."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

from cjkclip.compat.sources import require_known, without_idle
from cjkclip.compat.transformers.inputs.settings import IDLE, SIDES, UNLIMITED
from cjkclip.compat.transformers.inputs.tokenization import SPIECE, PathLike, PreTrainedTokenizer
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
        self,
        vocab: PathLike | Mapping[str, int] | None = None,
        merges: PathLike | Sequence[Any] | None = None,
        *,
        model_max_length: int = UNLIMITED,
        **options: Any,
    ) -> None:
        """Take a vocabulary and merges, or their files vocab.json and merges.txt (vocab_file and merges_file).

        Options: bos_token, eos_token, unk_token, pad_token; padding_side, truncation_side.
        """
        owner = type(self).__name__
        vocab, merges = (options.pop(f"{name}_file", value) for name, value in (("vocab", vocab), ("merges", merges)))
        options = without_idle(options, owner, IDLE)
        require_known(options, (*SIDES, *(f"{role}_token" for role in ("bos", "eos", "unk", "pad"))), owner)
        if vocab is None or merges is None:
            raise InputError(f"{owner} needs a vocabulary and merges: pass both, or call {owner}.from_pretrained(name)")
        tokens = {role: options.get(f"{role}_token") for role in ("bos", "eos", "unk", "pad")}
        rules = replace(
            HF,
            context=model_max_length,
            sot=tokens["bos"] or HF.sot,
            eot=tokens["eos"] or HF.eot,
            unk=tokens["unk"] or HF.unk,
            pad=tokens["pad"] or HF.pad,
        )
        ids = vocab if isinstance(vocab, Mapping) else read_json(Path(vocab))
        if isinstance(merges, str | Path):
            pairs = bpe_files.read_merges(Path(merges), at_most=10**9)
        else:
            pairs = [cast(bpe_files.Merge, tuple(m.split(" ") if isinstance(m, str) else m)) for m in merges]
        self._take(Bpe(ids, pairs, rules), model_max_length)
        self.assign({side: options[side] for side in SIDES if side in options})

    @classmethod
    def _read(cls, folder: Path, length: int) -> Bpe:
        return Bpe.from_transformers(folder, context=length)

    def _specials(self) -> dict[str, str | None]:
        rules = cast(Bpe, self.core).rules
        return {"bos": rules.sot, "eos": rules.eot, "unk": rules.unk or rules.eot, "pad": rules.pad}

    def build_inputs_with_special_tokens(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """Return [bos] a [eos], or [bos] a [eos] [eos] b [eos]."""
        core = cast(Bpe, self.core)
        second = () if token_ids_1 is None else (core.eot, *token_ids_1, core.eot)
        return [core.sot, *token_ids_0, core.eot, *second]

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

    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]  # noqa: RUF012  see Settings
    rules: ClassVar[dict[str, str]] = {"do_lower_case": "lower"}

    def __init__(
        self,
        vocab: PathLike | Mapping[str, int] | None = None,
        do_lower_case: bool = True,
        *,
        model_max_length: int = UNLIMITED,
        **options: Any,
    ) -> None:
        """Take a vocabulary, or its file vocab.txt (vocab_file).

        Options: cls_token, sep_token, pad_token, unk_token, mask_token; padding_side, truncation_side.
        """
        owner = type(self).__name__
        vocab = options.pop("vocab_file", vocab)
        options = without_idle(options, owner, IDLE)
        require_known(options, (*SIDES, *(f"{role}_token" for role in wordpiece_files.ROLES)), owner)
        if vocab is None:
            raise InputError(f"{owner} needs a vocabulary: pass vocab, or call {owner}.from_pretrained(name)")
        tokens = {name.removesuffix("_token"): token for name, token in options.items() if name not in SIDES}
        rules = replace(BERT, lower=do_lower_case, context=model_max_length, **tokens)
        core = WordPiece(vocab, rules) if isinstance(vocab, Mapping) else WordPiece.from_vocab(Path(vocab), rules)
        self._take(core, model_max_length)
        self.assign({side: options[side] for side in SIDES if side in options})

    @classmethod
    def _read(cls, folder: Path, length: int) -> WordPiece:
        return WordPiece.from_transformers(folder, context=length)

    def _specials(self) -> dict[str, str | None]:
        return {role: getattr(self.core.rules, role) for role in ("unk", "sep", "pad", "cls", "mask")}

    def build_inputs_with_special_tokens(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """Return [CLS] a [SEP], or [CLS] a [SEP] b [SEP]."""
        core = cast(WordPiece, self.core)
        return [core.cls, *token_ids_0, core.sep, *(() if token_ids_1 is None else (*token_ids_1, core.sep))]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """Return 0 for [CLS], the first text and its [SEP], 1 for the second text and its [SEP]."""
        return [0] * (len(token_ids_0) + 2) + ([] if token_ids_1 is None else [1] * (len(token_ids_1) + 1))

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

    def build_inputs_with_special_tokens(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """Return [CLS] a. Raises InputError for a second text."""
        if token_ids_1 is not None:
            raise InputError("got two texts, but rinna's models read one text, not two: leave text_pair out")
        front = cast(Unigram, self.core).cls
        return [*([] if front is None else [front]), *token_ids_0]

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
