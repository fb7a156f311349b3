"""The base of transformers' models: reading and writing files, devices and types, and recording of inner states."""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from cjkclip import parameters
from cjkclip.checkpoints import Found, weights
from cjkclip.checkpoints.weights.replace import new_folder
from cjkclip.checkpoints.weights.tensors import dtype_of
from cjkclip.compat.sources import SAVE_IDLE, require_idle
from cjkclip.compat.transformers.configs.configuration import PretrainedConfig
from cjkclip.compat.transformers.models.methods import Methods, parts_of
from cjkclip.compat.transformers.models.reading import read_checkpoint
from cjkclip.compat.transformers.models.tree import Branch
from cjkclip.config import Model
from cjkclip.engines.torch.blocks import Attention
from cjkclip.engines.torch.towers import Towers, build
from cjkclip.errors import InputError
from cjkclip.machine.mapped import steady
from cjkclip.parameters import shapes

ATTENTION = ("sdpa", "eager")
# Options of save_pretrained with the values that change nothing. Other values raise OptionError.
SAVE: dict[str, tuple[Any, ...]] = SAVE_IDLE | {
    "variant": (None,),
    "save_peft_format": (True, None),
    "save_original_format": (True, None),
}
_M = TypeVar("_M", bound="PreTrainedModel")


class Flags(NamedTuple):
    """The outputs that a call requests."""

    attentions: bool
    hidden: bool
    dictionary: bool


class Recording(NamedTuple):
    """Recorded states; None for states that the call did not request."""

    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


class PreTrainedModel(Methods):
    """Base of all models: a configuration, and towers under their published names."""

    config_class: ClassVar[type[PretrainedConfig]] = PretrainedConfig
    config: PretrainedConfig

    def __init__(self, config: PretrainedConfig) -> None:
        """Build a model with random weights. Raises TypeError for another class of configuration."""
        super().__init__()
        if not isinstance(config, self.config_class):
            raise TypeError(
                f"{type(self).__name__} takes a {self.config_class.__name__}, got {type(config).__name__}; "
                "for any configuration use AutoModel.from_config(config)"
            )
        self._settle(config, build(self._model(config)))

    def _settle(self, config: PretrainedConfig, towers: Towers) -> None:
        """Store a configuration and the towers that it describes."""
        self.config = config
        self._take(towers)
        self.set_attn_implementation(getattr(config, "_attn_implementation", "sdpa"))

    def _take(self, towers: Towers) -> None:
        """Put the towers under their published names."""
        raise NotImplementedError

    @classmethod
    def _model(cls, config: PretrainedConfig, params: Mapping[str, np.ndarray] | None = None) -> Model:
        """Return the config of this class's towers; `params` are the parameters of a checkpoint."""
        del params
        return config.to_model()

    @classmethod
    def from_config(cls: type[_M], config: PretrainedConfig, *, attn_implementation: str | None = None) -> _M:
        """Build a model with random weights."""
        model = cls(config)
        if attn_implementation is not None:
            model.set_attn_implementation(attn_implementation)
        return model

    _from_config = from_config

    @classmethod
    def from_pretrained(
        cls: type[_M],
        pretrained_model_name_or_path: str | Path,
        *,
        config: PretrainedConfig | None = None,
        **options: Any,
    ) -> _M:
        """Load a model in evaluation mode from a hub name, an alias, a directory or a file.

        options: revision, cache_dir, local_files_only, token; dtype (or torch_dtype): float32 (default), another, or
        "auto" for the stored type; attn_implementation: "sdpa" or "eager"; device_map: a device, "auto" or
        {"": device}; fields of the configuration; and family, image_tower and facts as in cjkclip.load.
        Raises the errors of cjkclip.load, TypeError for an unknown option, and OptionError for one with a value that is
        not supported.
        """
        found, record, rest = read_checkpoint(pretrained_model_name_or_path, options, cls.__name__)
        return cls.from_found(found, str(pretrained_model_name_or_path), record, config, rest)

    @classmethod
    def from_found(
        cls: type[_M],
        found: Found,
        source: str,
        record: Mapping[str, Any] | None,
        config: PretrainedConfig | None,
        options: Mapping[str, Any],
    ) -> _M:
        """Build the model of a checkpoint that was read; `record` is its config.json."""
        rest = dict(options)
        dtype, device = rest.pop("torch_dtype", None), rest.pop("device_map", None)
        dtype, attention = rest.pop("dtype", dtype), rest.pop("attn_implementation", None)
        fields = cls.config_class.reads(record) if config is None and record is not None else None
        if config is None:
            config = cls.config_class.from_dict(fields) if fields else cls.config_class.from_model(found.config)
        config = deepcopy(config).updated(rest)  # the caller's configuration must not change
        towers = cls._model(config, found.params)
        parameters.check(_params_of(towers, found.params), shapes(towers), f"{source} as {cls.__name__}")
        model = cls.__new__(cls)
        Branch.__init__(model)
        config.name_or_path = source
        with steady(found.files):
            model._settle(config, build(towers, {n: _tensor(found.params[n], dtype) for n in shapes(towers)}))
        if attention is not None:
            model.set_attn_implementation(attention)
        return model.to("cpu" if device is None else device).eval()

    def save_pretrained(
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        *,
        safe_serialization: bool = True,
        push_to_hub: bool = False,
        **options: Any,
    ) -> None:
        """Write config.json and model.safetensors (or pytorch_model.bin), both completely or not at all.

        is_main_process: False writes nothing. state_dict: parameters to write instead of the model's own. push_to_hub:
        upload the directory too, as repo_id (default: its name). max_shard_size and save_function have no effect: the
        weights are always one file. The tokenizer and the preprocessing are saved by the processor.
        Raises OptionError for an option that is not supported, and LayoutError for parameters of another model.
        """
        repo_id, token = options.pop("repo_id", None), options.pop("token", None)
        for name in ("max_shard_size", "save_function"):
            options.pop(name, None)
        require_idle(options, "save_pretrained", SAVE)
        own = self.state_dict()
        if state_dict is not None:
            parameters.check(arrays(state_dict), {name: tuple(own[name].shape) for name in own}, "state_dict")
        if is_main_process:
            self._write(Path(save_directory), own if state_dict is None else state_dict, safe_serialization)
            if push_to_hub:
                self.push_to_hub(repo_id or Path(save_directory).name, token=token)

    def _write(self, folder: Path, state: Mapping[str, Tensor], safe: bool) -> None:
        """Write the files of save_pretrained."""
        config = self.config.from_dict(self.config.to_dict())
        config.__dict__.pop("torch_dtype", None)
        config.__dict__.update(architectures=[type(self).__name__], dtype=str(self.dtype).removeprefix("torch."))
        file = "model.safetensors" if safe else "pytorch_model.bin"
        with new_folder(folder, "overwrite") as part:
            weights.write(part / file, arrays(state))
            config.save_pretrained(part)

    def set_attn_implementation(self, attn_implementation: str) -> None:
        """Set "sdpa" (fused attention) or "eager" (step by step). Raises InputError for another name."""
        name = attn_implementation
        if name not in ATTENTION:
            raise InputError(
                f"attn_implementation is {name!r}, expected one of {list(ATTENTION)}; leave it out for 'sdpa'"
            )
        self.config.__dict__["_attn_implementation"] = name
        for attention in attentions(self):
            attention.eager = name == "eager"

    def _tower_flags(self, flags: Mapping[str, Any]) -> dict[str, bool]:
        """Return the flags of a call as arguments for a tower below."""
        outputs = self._flags(flags)
        return {"output_attentions": outputs.attentions, "output_hidden_states": outputs.hidden, "return_dict": True}

    def _flags(self, flags: Mapping[str, Any]) -> Flags:
        """Return the flags of a call, by default the configuration's. Raises TypeError for any other argument."""
        names = ("output_attentions", "output_hidden_states", "return_dict")
        if unknown := sorted(set(flags) - set(names)):
            raise TypeError(
                f"{type(self).__name__} got unexpected arguments {unknown}: remove them; the flags are {list(names)}"
            )
        values = (flags.get(name) for name in names)
        return Flags(*(getattr(self.config, n) if v is None else bool(v) for n, v in zip(names, values, strict=True)))


def attentions(model: nn.Module) -> list[Attention]:
    """Return the attention modules below a model, in order of computation."""
    parts = [module.part if isinstance(module, Branch) else module for module in model.modules()]
    below = [each for part in parts if part is not None for each in part.modules()]
    return list(dict.fromkeys(each for each in below if isinstance(each, Attention)))


def arrays(state: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return a state dictionary as arrays, each in its own type."""

    def one(tensor: Tensor) -> np.ndarray:
        own = tensor.detach().cpu().contiguous()
        # torch cannot convert bfloat16 to NumPy, so its bits are read as int16
        return own.view(torch.int16).numpy().view(dtype_of("BF16")) if own.dtype == torch.bfloat16 else own.numpy()

    return {name: one(tensor) for name, tensor in state.items()}


@contextmanager
def record_states(blocks: Iterable[nn.Module], flags: Flags) -> Generator[Callable[[], Recording]]:
    """Record the inputs and outputs of blocks, and their attention probabilities, during the calls inside.

    Fused attention has no probabilities, so attention is computed step by step inside. Only one thread at a time may
    record from a model.
    """
    states: list[Any] = []
    probabilities: list[Any] = []
    hooks: list[Any] = []
    blocks = list(blocks)
    if flags.hidden:
        hooks.append(blocks[0].register_forward_pre_hook(lambda _, inputs: states.append(inputs[0])))
        hooks += [block.register_forward_hook(lambda _, __, output: states.append(output)) for block in blocks]
    fused: list[Attention] = []
    if flags.attentions:
        layers = [each for block in blocks for each in attentions(block)]
        hooks += [a.probs.register_forward_hook(lambda _, __, output: probabilities.append(output)) for a in layers]
        fused = [each for each in layers if not each.eager]
    # Checkpointed blocks run again in the backward pass, after eager attention is switched off, so they run plainly.
    checkpointed = {part: vars(part).pop("forward", None) for part in parts_of(blocks) if flags.attentions}
    try:
        for each in fused:
            each.eager = True
        yield lambda: Recording(
            tuple(states) if flags.hidden else None, tuple(probabilities) if flags.attentions else None
        )
    finally:
        for each in fused:
            each.eager = False
        for part, forward in checkpointed.items():
            if forward is not None:
                part.forward = forward
        for hook in hooks:
            hook.remove()


def _params_of(model: Model, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a checkpoint's parameters of this model's towers. As in transformers, heads that it lacks are left out."""
    expected = shapes(model)
    towers = {name.partition(".")[0] for name in expected}
    heads = ("vision.proj.", "text.proj.", "text.pooler.", "logit_scale")
    return {
        n: a for n, a in params.items() if n in expected or (n.partition(".")[0] in towers and not n.startswith(heads))
    }


def _tensor(array: np.ndarray, dtype: torch.dtype | str | None) -> Tensor:
    """Return a copy as a tensor of a type: float32 by default; "auto" keeps the stored type."""
    own = np.array(array, order="C")
    half = own.dtype.name == "bfloat16"
    tensor = torch.from_numpy(own.view(np.int16)).view(torch.bfloat16) if half else torch.from_numpy(own)
    if not tensor.is_floating_point() or dtype == "auto":
        return tensor
    target = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype or torch.float32
    if not isinstance(target, torch.dtype) or not target.is_floating_point:
        raise InputError(f"dtype is {dtype!r}, expected 'auto', 'float32', 'float16', 'bfloat16' or one as torch.dtype")
    return tensor.to(target)
