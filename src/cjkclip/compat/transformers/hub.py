"""Upload of saved models, configurations, tokenizers and processors to Hugging Face's hub."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from cjkclip.compat.sources import require_known

OPTIONS = ("commit_message", "commit_description", "private", "token", "revision", "create_pr", "safe_serialization")


@runtime_checkable
class Saved(Protocol):
    """An object with transformers' save_pretrained."""

    def save_pretrained(self, save_directory: Path, /, **options: Any) -> Any:
        """Write the object's files into a directory."""
        ...


def push(thing: Saved, repo_id: str, options: Mapping[str, Any]) -> str:
    """Create a repository if necessary, and upload the files that `save_pretrained` writes; return the commit's URL.

    options: commit_message, commit_description, private, token, revision, create_pr as in huggingface_hub, and
    safe_serialization. Raises OptionError for another option, and the errors of huggingface_hub.
    """
    from cjkclip.checkpoints.hub import huggingface

    require_known(options, OPTIONS, "push_to_hub")
    rest = dict(options)
    saving = {name: rest.pop(name) for name in ("safe_serialization",) if name in rest}
    message = rest.pop("commit_message", None) or f"Upload {type(thing).__name__}"
    with tempfile.TemporaryDirectory() as folder:
        thing.save_pretrained(Path(folder), **saving)
        return huggingface.upload(Path(folder), repo_id, commit_message=message, **rest)
