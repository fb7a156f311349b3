"""The tokenizer of a checkpoint, checked against its text tower."""

from cjkclip.checkpoints.formats import Checkpoint, Format, as_written
from cjkclip.config import Model, Text
from cjkclip.errors import FactsError
from cjkclip.text import Tokenizer
from cjkclip.text.bpe import Bpe


def tokenizer_of(form: Format, checkpoint: Checkpoint, config: Model) -> Tokenizer | None:
    """What a format makes of the files beside the weights. Raises FactsError if it and the text tower do not fit."""
    with as_written(checkpoint.source):
        tokenizer = form.tokenizer(checkpoint, config)
    if tokenizer is not None and config.text is not None and tokenizer.vocab_size > config.text.vocab:
        raise FactsError(
            f"{checkpoint.source}: its tokenizer has {tokenizer.vocab_size} ids, the text tower {config.text.vocab}: "
            "they do not belong together"
        )
    if tokenizer is not None and config.text is not None and tokenizer.context > config.text.context:
        raise FactsError(
            f"{checkpoint.source}: its tokenizer makes rows of {tokenizer.context} ids, the text tower reads "
            f"{config.text.context}: they do not belong together"
        )
    if isinstance(tokenizer, Bpe) and isinstance(config.text, Text):
        _require_end(config.text, tokenizer, checkpoint.source)
    return tokenizer


def _require_end(text: Text, tokenizer: Bpe, source: str) -> None:
    """Raise FactsError unless the id that a text is read at is that of the end token."""
    last = tokenizer.vocab_size - 1
    where, instead = "the largest id", "an ordinary word there"
    if text.pool == "first-eot":
        where, instead = f"the first id {text.eot}", "that id where a text has it, else the start"
    if tokenizer.eot != (last if text.pool == "largest-id" else text.eot):
        raise FactsError(
            f"{source}: its config pools text at {where}, but its tokenizer's end token has id {tokenizer.eot} of 0 to "
            f"{last}: the original reads {instead}. To read the end token: "
            f"load(..., facts={{'text.pool': 'first-eot', 'text.eot': {tokenizer.eot}}})"
        )
