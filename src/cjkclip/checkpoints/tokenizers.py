"""The tokenizer of a checkpoint, checked against its text tower."""

from cjkclip.checkpoints.formats import Checkpoint, Format, as_written
from cjkclip.config import Model, Text
from cjkclip.errors import FactsError
from cjkclip.text import Tokenizer
from cjkclip.text.bpe import Bpe


def tokenizer_of(form: Format, checkpoint: Checkpoint, config: Model) -> Tokenizer | None:
    """Return the tokenizer of the side files. Raises FactsError if it does not fit the text tower."""
    with as_written(checkpoint.source):
        tokenizer = form.tokenizer(checkpoint, config)
    if tokenizer is not None and config.text is not None and tokenizer.vocab_size > config.text.vocab:
        raise FactsError(
            f"{checkpoint.source}: the tokenizer has {tokenizer.vocab_size} ids, the text tower {config.text.vocab}, "
            "so they belong to different models. Download the tokenizer files of this model"
        )
    if tokenizer is not None and config.text is not None and tokenizer.context > config.text.context:
        raise FactsError(
            f"{checkpoint.source}: the tokenizer makes rows of {tokenizer.context} ids, the text tower reads "
            f"{config.text.context}, so they belong to different models. Download the tokenizer files of this model"
        )
    if isinstance(tokenizer, Bpe) and isinstance(config.text, Text):
        _require_end(config.text, tokenizer, checkpoint.source)
    return tokenizer


def _require_end(text: Text, tokenizer: Bpe, source: str) -> None:
    """Raise FactsError unless the text feature is read at the end token."""
    last = tokenizer.vocab_size - 1
    where, instead = f"the largest token id ({last})", "an ordinary word"
    if text.pool == "first-eot":
        where, instead = f"the first token id {text.eot}", "that token, or the start of a text that lacks it"
    if tokenizer.eot != (last if text.pool == "largest-id" else text.eot):
        raise FactsError(
            f"{source}: the config reads the text feature at {where}, but the end token is id {tokenizer.eot}, so the "
            f"original model reads {instead}. To read the end token: "
            f'load(..., facts={{"text.pool": "first-eot", "text.eot": {tokenizer.eot}}})'
        )
