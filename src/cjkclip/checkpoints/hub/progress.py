"""Progress bars of downloads, on standard error and only in a terminal."""

from typing import Any

from huggingface_hub.utils import tqdm

from cjkclip.checkpoints.hub import SILENT


class Bar(tqdm):
    """huggingface_hub's bar. HF_HUB_DISABLE_PROGRESS_BARS and `hub.silence` turn it off."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """The arguments of tqdm; with `disable` None the bar is shown in a terminal only."""
        disable = True if self.hidden() else kwargs.pop("disable", None)
        super().__init__(*args, **{**kwargs, "disable": disable})

    def hidden(self) -> bool:
        """Whether the bar is turned off."""
        return SILENT.get()


class Hidden(Bar):
    """A bar that is never shown, for short downloads."""

    def hidden(self) -> bool:
        """Always true."""
        return True


def bytes_bar(name: str, total: int | None) -> Bar:
    """Return one bar for all bytes of a download."""
    return Bar(desc=name, total=total, unit="B", unit_scale=True)
