"""Progress bars of downloads: on standard error, and only if that is a terminal."""

from typing import Any

from huggingface_hub.utils import tqdm

from cjkclip.checkpoints.hub import SILENT


class Bar(tqdm):
    """huggingface_hub's bar, which HF_HUB_DISABLE_PROGRESS_BARS turns off; `hub.silence` does too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As tqdm. `disable` None is: shown at a terminal only."""
        disable = True if self.hidden() else kwargs.pop("disable", None)
        super().__init__(*args, **{**kwargs, "disable": disable})

    def hidden(self) -> bool:
        """Whether nobody is to see it."""
        return SILENT.get()


class Hidden(Bar):
    """For what is over at once."""

    def hidden(self) -> bool:
        """Always."""
        return True


def bytes_bar(name: str, total: int | None) -> Bar:
    """One bar for all bytes of a download."""
    return Bar(desc=name, total=total, unit="B", unit_scale=True)
