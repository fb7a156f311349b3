"""The command line as tests run it: in this process or in one of its own, on a tiny model and its three images."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import Result

from families import GOLDEN
from support.processes import environment
from support.runner import invoke

TINY = GOLDEN / "hf-clip-eos2"
IMAGES = TINY / "images"
MODEL = ("-m", TINY, "--engine", "numpy")

# A change of this list is a change of the public command line: record it in CHANGELOG.md.
FLAGS = {
    "models": "--json",
    "classify": "IMAGE --labels -l --label-file --template --language --model -m --engine --precision --threads --json",
    "search": "QUERY --in -k --sheet --language --model -m --engine --precision --threads --json",
    "embed": "INPUT --out -o --lines --as --fast --batch-size --model -m --engine --precision --threads --json",
    "train": "PAIRS.tsv --out -o --from --steps --batch --lr --seed --json",
    "convert": "MODEL FOLDER --layout --image-tower --fact --force --verify --json",
    "verify": "A B --image-tower --fact --tolerance --engine --json",
    "bench": "--model -m --image-tower --fact --engine --quick --int8 --out -o --json",
    "doctor": "MODEL --image-tower --fact --engine --precision --json",
}


def run(*args: str | Path, typed: str | None = None) -> Any:
    """Run `cjkclip ARGS` in this process."""
    return invoke([str(arg) for arg in args], typed=typed, env={"COLUMNS": "100"})


def answer(*args: str | Path, code: int = 0, typed: str | None = None) -> dict[str, Any]:
    """Return the JSON that a command prints; standard output may contain nothing else."""
    result = run(*args, "--json", typed=typed)
    assert (result.exit_code, result.exception and type(result.exception)) in {(code, None), (code, SystemExit)}
    data = json.loads(result.stdout_bytes.decode())
    assert data["schema"] == 1
    assert data["command"] == args[0]
    return data


def bad_run(*args: str | Path, code: int) -> Result:
    """Run a command that must end with `code` and without a traceback."""
    result = run(*args)
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == code, result.output
    return result


def program(*args: str | bytes, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run `cjkclip ARGS` in a process of its own."""
    words = [arg if isinstance(arg, bytes) else arg.encode() for arg in args]
    command = [sys.executable.encode(), b"-m", b"cjkclip", *words]
    surroundings = environment(**{"HF_HUB_OFFLINE": "1", **env})
    return subprocess.run(command, capture_output=True, env=surroundings, check=False)
