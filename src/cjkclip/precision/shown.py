"""Inputs to calibrate a model on, and others to judge it by: built-in ones, or the caller's own."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from cjkclip import probes
from cjkclip.config import Model
from cjkclip.errors import EngineError, InputError
from cjkclip.image import Picture, load_pixels
from cjkclip.probes import Inputs
from cjkclip.text import Tokenizer

FEWEST = 16  # images, or texts, that the caller has to pass to calibrate on them


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """Inputs for calibration and, separate from them, inputs for judging."""

    calibration: Inputs
    judged: Inputs  # its texts name the first `drawings` images, in order, one language after the other
    drawings: int


@dataclass(frozen=True, eq=False)
class CalibrationSource:
    """The origin of the inputs: the package, or the caller's own images and texts."""

    tokenizer: Tokenizer | None
    languages: Sequence[str]
    pictures: Sequence[Picture] = ()
    texts: Sequence[str] = ()
    known: str = ""  # the digest of inputs that are no longer kept
    _digests: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Raise InputError if the caller passed too few inputs."""
        for kind, own in (("images", self.pictures), ("texts", self.texts)):
            if own and len(own) < FEWEST:
                raise InputError(
                    f"got {len(own)} {kind} to calibrate int8, expected at least {FEWEST} or none: pass more to "
                    "Clip.quantize, or call quantize() to use the built-in inputs"
                )

    def spent(self) -> tuple[Sequence[Picture], Sequence[str], str]:
        """Return the caller's inputs as a digest alone, which finds the quantised graphs in the cache again."""
        return (), (), self._digests.get("", self.known) if self.pictures or self.texts or self.known else ""

    def shown(self, config: Model) -> Shown:
        """Return the inputs; every fourth of the caller's own images is used for judging.

        Raises EngineError if they are no longer kept.
        """
        if self.known:
            raise EngineError(
                "this model was quantised with your own images and texts, and its graphs are no longer in the cache: "
                "call quantize(images, texts) on the original model again"
            )
        own, others = [p for i, p in enumerate(self.pictures) if i % 4 < 3], list(self.pictures[3::4])
        judged, drawings = probes.judging(config, self.tokenizer, self.languages, others)
        calibration = probes.calibration(config, self.tokenizer, self.languages, (own, self.texts))
        return Shown(calibration=calibration, judged=judged, drawings=drawings)

    def digest(self, config: Model) -> str:
        """Return a digest of everything that the inputs depend on besides this package and the config.

        It does not render the built-in images. It opens the caller's images and tokenizes the built-in sentences.
        """
        if self.known:
            return self.known
        digest = hashlib.sha256(repr((tuple(self.languages), tuple(self.texts), len(self.pictures))).encode())
        if self.pictures and config.image is not None:
            digest.update(load_pixels(self.pictures, config.image).tobytes())
        if self.tokenizer is not None:
            tokens = self.tokenizer(probes.sentences())
            digest.update(tokens.ids.tobytes() + tokens.mask.tobytes())
        return self._digests.setdefault("", digest.hexdigest())
