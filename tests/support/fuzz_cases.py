"""Cases of the fuzz tests: one valid checkpoint per container and kind of side file, and how to corrupt its files."""

import io
import json
import pickle
import random
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cjkclip.checkpoints import weights
from support import lies
from support.mutations import blocks, mutate

GOLDEN = Path(__file__).parents[1] / "golden"
Lie = Callable[[random.Random, bytes], bytes]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A directory that loads, and those of its files that are corrupted, one at a time."""

    name: str
    golden: str  # source directory
    spoilt: tuple[str, ...]
    lie: Lie
    asked: dict[str, Any] = field(default_factory=dict)  # arguments of load
    made: str = ""  # weight file that `build` writes instead of the golden one
    share: int = 1  # number of files relative to a side file
    sound: bool = True  # whether it loads before the corruption

    def spoil(self, rng: random.Random, content: bytes) -> bytes:
        """Return corrupted content: mostly wrong values in a valid container, else random damage."""
        kind = rng.random()
        return self.lie(rng, content) if kind < 0.6 else mutate(rng, content) if kind < 0.8 else blocks(rng, content)


def _side(golden: str, *spoilt: str, lie: Lie = lies.lie_json, **asked: Any) -> Case:
    return Case(name=f"{golden}: {spoilt[0]}", golden=golden, spoilt=spoilt, lie=lie, asked=asked)


HF, HEADS = "hf-clip-eos2", {"vision.heads": 4, "text.heads": 2}
WEIGHTS = (
    Case(name="safetensors", golden=HF, spoilt=("model.safetensors",), lie=lies.lie_safetensors),
    Case(
        name="sharded safetensors",
        golden=HF,
        spoilt=("model-1.safetensors", "model-2.safetensors"),
        lie=lies.lie_safetensors,
        made="model.safetensors.index.json",
    ),
    Case(
        name="index of shards",
        golden=HF,
        spoilt=("model.safetensors.index.json",),
        lie=lies.lie_json,
        made="model.safetensors.index.json",
    ),
    Case(name="torch zip .bin", golden=HF, spoilt=("pytorch_model.bin",), lie=lies.lie_zip, made="pytorch_model.bin"),
    Case(name="torch zip .pt", golden="cn-clip-vit", spoilt=("model.pt",), lie=lies.lie_zip, asked={"facts": HEADS}),
    Case(name="TorchScript", golden="openai-vit-torchscript", spoilt=("model.pt",), lie=lies.lie_zip),
    Case(name="legacy torch", golden=HF, spoilt=("legacy.pt",), lie=lies.lie_legacy, made="legacy.pt"),
    Case(name="torch tar", golden=HF, spoilt=("old.pt",), lie=lies.lie_tar, made="old.pt", sound=False),
    Case(
        name="Flax msgpack", golden=HF, spoilt=("flax_model.msgpack",), lie=lies.lie_msgpack, made="flax_model.msgpack"
    ),
    Case(name="TensorFlow h5", golden=HF, spoilt=("tf_model.h5",), lie=lies.lie_hdf5, made="tf_model.h5"),
    Case(name="npz", golden=HF, spoilt=("plain.npz",), lie=lies.lie_zip, made="plain.npz"),
    Case(name="npz, deflated", golden=HF, spoilt=("packed.npz",), lie=lies.lie_zip, made="packed.npz"),
)
TAIYI = {"facts": {"text.head": "project"}}
SIDES = (
    _side(HF, "config.json"),
    _side(HF, "preprocessor_config.json"),
    _side(HF, "vocab.json", "tokenizer_config.json", "special_tokens_map.json"),
    _side(HF, "merges.txt", lie=lies.lie_lines),
    _side("hf-clip-text-projection", "config.json"),
    _side("hf-clip-vision-projection", "config.json", "preprocessor_config.json"),
    _side("koclip", "tokenizer.json"),
    _side("open-clip", "open_clip_config.json"),
    _side("open-clip", "tokenizer.json"),
    _side("hf-chinese-clip", "config.json", "preprocessor_config.json"),
    _side("hf-chinese-clip", "tokenizer_config.json", "special_tokens_map.json"),
    _side("hf-chinese-clip", "vocab.txt", lie=lies.lie_lines),
    _side("rinna-clip-bert", "config.json"),
    _side("rinna-clip-bert", "spiece.model", lie=mutate),
    _side("taiyi-clip-model", "config.json", "tokenizer_config.json", **TAIYI),
    _side("moji", "config.json"),
    _side("moji", "tokenizer.json"),
)
CASES = {case.name: case for case in (*WEIGHTS, *SIDES)}


def build(folder: Path) -> None:
    """Write the valid directory of every case into `folder`, under its number."""
    for number, case in enumerate(CASES.values()):
        home = folder / str(number)
        source = GOLDEN / case.golden if case.golden != "moji" else Path(weights.__file__).parents[2] / "moji"
        home.mkdir()
        for file in source.iterdir():
            plain = file.is_file() and file.name not in {"expected.npz", "inputs.json", "fluent.zip", "noto.zip"}
            if plain and not (
                case.made and file.suffix in {".safetensors", ".msgpack", ".h5"} and file.name != case.made
            ):
                shutil.copy(file, home)
        if case.made and not (home / case.made).exists():
            _make(home, weights.read(source / "model.safetensors"), case.made)


def _make(home: Path, tensors: weights.Tensors, made: str) -> None:
    """Write `tensors` to the file `made`, in the container of that name."""
    import torch

    state = {name: torch.tensor(array) for name, array in tensors.items()}
    if made.endswith(".index.json"):
        half = len(tensors) // 2
        names = {name: f"model-{1 + (i >= half)}.safetensors" for i, name in enumerate(tensors)}
        for shard in set(names.values()):
            part = {name: array for name, array in tensors.items() if names[name] == shard}
            weights.write(home / shard, weights.Tensors(part))
        (home / made).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": names}), "utf-8")
    elif made == "legacy.pt":
        torch.save(state, home / made, _use_new_zipfile_serialization=False)
    elif made == "old.pt":
        (home / made).write_bytes(_tar(tensors))
    elif made.endswith(".npz"):
        (np.savez_compressed if made == "packed.npz" else np.savez)(home / made, **tensors)
    else:
        weights.write(home / made, tensors)


def _tar(tensors: weights.Tensors) -> bytes:
    """Return a file as torch before 0.1.10 wrote it: a tar of system facts, storages, tensors and a pickle."""
    out = io.BytesIO()
    parts = {
        "sys_info": pickle.dumps({"protocol_version": 1000, "little_endian": True}, 2),
        "pickle": pickle.dumps(list(tensors), 2),
        "tensors": pickle.dumps(len(tensors), 2),
        "storages": b"".join(array.tobytes() for array in tensors.values())[:20_000],
    }
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()
