"""The torch engine, for GPUs: the nn.Modules of towers.py behind the Engine protocol. Training uses the modules."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from cjkclip.arrays import is_float
from cjkclip.config import Model, Vit
from cjkclip.engines import Features, Ids, Params, Pixels, Stages, kind
from cjkclip.engines.torch import gpu
from cjkclip.engines.torch.arithmetic import arithmetic, settle
from cjkclip.engines.torch.towers import BertTower, TextTower, Towers, VitTower
from cjkclip.engines.torch.towers import build as build_towers
from cjkclip.errors import EngineError
from cjkclip.machine.memory import short_of_memory

# parts of torch's error messages if an allocation failed: on a GPU and in cuBLAS, on the CPU, in C++, in oneDNN
NO_MEMORY = (
    *gpu.NO_MEMORY,
    "not enough memory",
    "can't allocate memory",
    "bad_alloc",
    "could not create a primitive$",
)


def _compute_alone() -> None:
    """Use one thread in a forked child, where OpenMP waits for its other threads, which do not exist, for ever."""
    torch.set_num_threads(1)


with suppress(AttributeError):  # Windows cannot fork
    os.register_at_fork(after_in_child=_compute_alone)


class TorchEngine:
    """Inference in evaluation mode, without gradients. A CUDA device runs the towers through `gpu.Runner`."""

    name = "torch"

    def __init__(self, towers: Towers, precision: str, device: str) -> None:
        self.precision, self.device, self._process = precision, device, os.getpid()
        self.towers = settle(towers, precision, device)
        calls = [tower and partial(self._run, tower) for tower in (self.towers.vision, self.towers.text)]
        if kind(device) == "cuda":
            towers = self._twin()  # compiled blocks must not have the hooks of callers
            calls = [tower and gpu.Runner(tower, precision, device) for tower in (towers.vision, towers.text)]
        self._image, self._text = calls

    def prepare(self) -> None:
        """Do nothing: the towers can run as soon as they are built."""

    def _require_own_process(self) -> None:
        if kind(self.device) == "cuda" and self._process != os.getpid():
            raise EngineError(
                "CUDA does not work in a process that was forked after its first use. Load the model in the child, or "
                "start processes with multiprocessing.get_context('spawn')"
            )

    @short_of_memory(*NO_MEMORY)
    def image(self, pixels: Pixels) -> Features:
        assert self._image is not None
        self._require_own_process()
        return self._image(pixels)

    @short_of_memory(*NO_MEMORY)
    def text(self, ids: Ids, mask: Ids) -> Features:
        assert self._text is not None
        self._require_own_process()
        return self._text(ids, mask)

    def _twin(self) -> Towers:
        """Return separate modules with the same tensors."""
        return build_towers(self.towers.config, self.towers.state_dict()).eval().requires_grad_(False)

    def image_stages(self, pixels: Pixels) -> Stages:
        vision = self._twin().vision  # hooks on shared modules would record the calls of other threads too
        assert vision is not None
        if isinstance(self.towers.config.vision, Vit):
            inputs = {"ln_pre": "image_embeddings"}
            outputs = {"ln_post": "image_pooled"}
            outputs |= {"ln_pre": "image_ln_pre"} if self.towers.config.vision.pre_norm else {}
            outputs |= {f"blocks.{i}": f"image_block_{i}" for i in range(self.towers.config.vision.depth)}
        else:
            inputs = {"stage1": "image_stem"}
            outputs = {f"stage{i}": f"image_layer{i}" for i in range(1, 5)}
        return self._record(vision, (pixels,), inputs, outputs, "image_features")

    def text_stages(self, ids: Ids, mask: Ids) -> Stages:
        text = self._twin().text
        assert text is not None
        inputs = {"blocks.0": "text_embeddings"} | ({} if text.proj is None else {"proj": "text_pooled"})
        outputs = {"ln_final": "text_final"} if isinstance(text, TextTower) else {}
        outputs |= {f"blocks.{i}": f"text_block_{i}" for i in range(text.config.depth)}
        return self._record(text, (ids, mask), inputs, outputs, "text_features")

    def _run(self, call: Callable[..., Tensor], *inputs: np.ndarray) -> np.ndarray:
        self._require_own_process()
        with arithmetic(self.precision, self.device):
            return call(*(torch.tensor(array, device=self.device) for array in inputs)).float().cpu().numpy()

    @short_of_memory(*NO_MEMORY)
    def _record(
        self, tower: nn.Module, args: tuple[np.ndarray, ...], inputs: dict[str, str], outputs: dict[str, str], last: str
    ) -> Stages:
        """Run once with hooks: `inputs` and `outputs` map a submodule to the stage that is its input or output."""
        stages: Stages = {}

        def record_input(stage: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            return lambda _, args: stages.update({stage: args[0].float().cpu().numpy()})

        def record_output(stage: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
            return lambda _, __, out: stages.update({stage: out.float().cpu().numpy()})

        for module, stage in inputs.items():
            tower.get_submodule(module).register_forward_pre_hook(record_input(stage))
        for module, stage in outputs.items():
            tower.get_submodule(module).register_forward_hook(record_output(stage))
        stages[last] = self._run(partial(_every_token, tower), *args)
        return stages


def _every_token(tower: nn.Module, *inputs: Tensor) -> Tensor:
    """Return a tower's features, with every token of the last block computed, for hooks to record."""
    match tower:
        case VitTower():
            return tower.proj(tower.pool(tower.states(inputs[0])))
        case TextTower():
            return tower.proj(tower.pool(tower.states(inputs[0]), inputs[0]))
        case BertTower():
            pooled = tower.pool(tower.states(inputs[0], inputs[1]))
            return pooled if tower.proj is None else tower.proj(pooled)
        case _:
            return tower(*inputs)


def build(config: Model, params: Params, precision: str, device: str) -> TorchEngine:
    """Build the engine on a device. Weights become float32; `arithmetic` describes bf16."""
    device = _resolved(device)
    with short_of_memory(*NO_MEMORY):
        return TorchEngine(build_towers(config, tensors(params)), precision, device)


def fast(device: str) -> str | None:
    """Return "bf16" if the GPU has matrix units for it, from compute capability 8.0 on, else None."""
    return "bf16" if torch.cuda.get_device_capability(_resolved(device)) >= (8, 0) else None


def machine(device: str) -> str:
    """Return torch's version and the GPU's name."""
    return repr((torch.__version__, torch.cuda.get_device_name(_resolved(device))))


def _resolved(device: str) -> str:
    """Return the device, "cuda" with its number: each thread has its own current GPU. Raises EngineError if missing."""
    backends = {"cuda": (torch.cuda, "CUDA device"), "mps": (torch.backends.mps, "Apple GPU")}
    if kind(device) not in backends:
        return device
    backend, name = backends[kind(device)]
    if not backend.is_available():
        raise EngineError(
            f"torch {torch.__version__} finds no {name} for device {device!r}: use device='auto' or 'cpu'"
        )
    return f"cuda:{torch.cuda.current_device()}" if device == "cuda" else device


def tensors(params: Params) -> dict[str, Tensor]:
    """Copy parameters into tensors: floating point as float32, integers in their own type."""
    return {k: torch.from_numpy(np.array(v, np.float32 if is_float(v) else v.dtype)) for k, v in params.items()}
