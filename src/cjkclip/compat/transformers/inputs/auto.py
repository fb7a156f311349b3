"""AutoProcessor, AutoTokenizer and AutoImageProcessor, for every family and every format that `cjkclip.load` reads.

A directory with transformers' own files is read as transformers reads it. Other models (OpenAI's and cn_clip's files,
cjkclip's own, and for images rinna and Taiyi) use the tokenizer and preprocessing that `cjkclip.load` uses.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, cast

from cjkclip.clip import Clip
from cjkclip.compat.sources import IGNORED, LOAD, load_clip, require_known, resolve_source
from cjkclip.compat.transformers.inputs.images import (
    ChineseCLIPImageProcessor,
    CLIPImageProcessor,
    FamilyImageProcessor,
    read_record,
)
from cjkclip.compat.transformers.inputs.processors import (
    ChineseCLIPProcessor,
    CLIPProcessor,
    ImageProcessor,
    ProcessorOptions,
)
from cjkclip.compat.transformers.inputs.tokenization import SETTINGS, SPIECE, PreTrainedTokenizer
from cjkclip.compat.transformers.inputs.tokenizers import BertTokenizer, CLIPTokenizer, SentencePieceTokenizer
from cjkclip.errors import FactsError
from cjkclip.text.bpe import Bpe
from cjkclip.text.files import read_json
from cjkclip.text.unigram import Unigram
from cjkclip.text.wordpiece import WordPiece

_CLASSES: dict[type, type[PreTrainedTokenizer]] = {
    Bpe: CLIPTokenizer,
    WordPiece: BertTokenizer,
    Unigram: SentencePieceTokenizer,
}


class AutoTokenizer:
    """Loads the tokenizer of a model."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **options: Any) -> PreTrainedTokenizer:
        """Load the tokenizer of a name that `cjkclip.load` accepts.

        Options: `sources.LOAD`, and those of the tokenizer's own from_pretrained.
        """
        return _Parts(pretrained_model_name_or_path, options, "AutoTokenizer").tokenizer()


class AutoImageProcessor:
    """Loads the image processor of a model."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **options: Any) -> ImageProcessor:
        """Load the image processor of a name that `cjkclip.load` accepts.

        Options: `sources.LOAD`, and those of CLIPImageProcessor.
        """
        return _Parts(pretrained_model_name_or_path, options, "AutoImageProcessor").image_processor()


class AutoProcessor:
    """Loads the tokenizer and the image processor of a model, as one processor."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **options: Any) -> CLIPProcessor:
        """Load the processor of a name that `cjkclip.load` accepts.

        Options: `sources.LOAD`, and those of CLIPProcessor.from_pretrained.
        """
        parts = _Parts(pretrained_model_name_or_path, options, "AutoProcessor")
        tokenizer = parts.tokenizer()
        kind = ChineseCLIPProcessor if isinstance(tokenizer, BertTokenizer) else CLIPProcessor
        return kind(parts.image_processor(), tokenizer)


class _Parts:
    """Tokenizer and image processor of a name, from its directory or, if it lacks the files, from the model."""

    def __init__(self, name: str | Path, options: dict[str, Any], owner: str) -> None:
        self.options = ProcessorOptions.of(options, owner, BertTokenizer)
        require_known(self.options.places, (*LOAD, *IGNORED), f"{owner}.from_pretrained")
        self.source = resolve_source(name, self.options.places, small=True)
        self.name, self.folder = self.source.name, self.source.path

    @cached_property
    def clip(self) -> Clip:
        return load_clip(self.source, self.options.places)

    def tokenizer(self) -> PreTrainedTokenizer:
        """Return the tokenizer with the options that override its files. Raises OptionError for one of another kind."""
        tokenizer, texts = self.options.tokenizer or self._tokenizer(), self.options.texts
        require_known(texts, (*SETTINGS, *tokenizer.rules), type(tokenizer).__name__)
        tokenizer.name_or_path = self.name
        if length := texts.get("model_max_length") or texts.get("max_length"):
            tokenizer.model_max_length = length
        return tokenizer.changed(texts)

    def _tokenizer(self) -> PreTrainedTokenizer:
        folder = self.folder
        if (folder / SPIECE).is_file():
            return SentencePieceTokenizer.from_folder(folder)
        if (folder / "tokenizer_config.json").is_file() and not _is_open_clips(folder):
            bert = (folder / "vocab.txt").is_file() or _is_wordpiece(folder / "tokenizer.json")
            return (BertTokenizer if bert else CLIPTokenizer).from_folder(folder)
        core = self.clip.tokenizer
        if core is None:
            raise FactsError(f"{self.name} has no tokenizer files: put them beside the weights and load again")
        return _CLASSES[type(core)].over(core, core.context)  # pyright: ignore[reportArgumentType]

    def image_processor(self) -> ImageProcessor:
        if self.options.image_processor is not None:
            return self.options.image_processor
        record = read_record(self.folder)
        if record is not None:
            kind = record.get("image_processor_type") or record.get("feature_extractor_type") or ""
            chinese = str(kind).startswith("ChineseCLIP")
            return (ChineseCLIPImageProcessor if chinese else CLIPImageProcessor).from_folder(
                self.folder, **self.options.images
            )
        rules = self.clip.config.image
        if rules is None:
            raise FactsError(
                f"{self.name} has no preprocessing: put its preprocessor_config.json beside the weights and load again"
            )
        require_known(self.options.images, (), f"the image processor of {self.name}")
        return FamilyImageProcessor(rules)


def _is_open_clips(folder: Path) -> bool:
    """Whether the directory is open_clip's, whose tokenizer files are for transformers, which cleans texts less."""
    return (folder / "open_clip_config.json").is_file() and not (folder / "config.json").is_file()


def _is_wordpiece(path: Path) -> bool:
    model: Any = read_json(path).get("model") if path.is_file() else None
    return isinstance(model, dict) and cast(dict[str, Any], model).get("continuing_subword_prefix") == "##"
