"""Progress bars of downloads, on standard error and only in a terminal."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, tqdm

from cjkclip.checkpoints.hub import SILENT


class Bar(tqdm):
    """huggingface_hub's bar, which HF_HUB_DISABLE_PROGRESS_BARS and `hub.silence` turn off."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take the arguments of tqdm; with `disable` None the bar is shown in a terminal only."""
        disable = True if self.hidden() else kwargs.pop("disable", None)
        super().__init__(*args, **{**kwargs, "disable": disable})

    def hidden(self) -> bool:
        """Whether the bar is turned off."""
        return SILENT.get()


class Hidden(Bar):
    """A bar that is never shown, for short downloads."""

    def hidden(self) -> bool:
        """Return True."""
        return True


@contextmanager
def files_silent() -> Generator[None]:
    """Hide bars of files inside `hub.silence`: huggingface_hub before 1.0 shows them whatever class is passed."""
    if not SILENT.get() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def bytes_bar(name: str, total: int | None) -> Bar:
    """Return one bar for all bytes of a download."""
    return Bar(desc=name, total=total, unit="B", unit_scale=True)
