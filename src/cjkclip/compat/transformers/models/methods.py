"""Methods that every model has in transformers and that no call computes with: sizes, embeddings, memory, upload."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.utils import checkpoint

from cjkclip.compat.transformers.configs.configuration import PretrainedConfig
from cjkclip.compat.transformers.hub import Saved, push
from cjkclip.compat.transformers.models.tree import Branch
from cjkclip.engines.torch.towers import BertTower, TextTower, VitTower
from cjkclip.errors import InputError

EncoderTower = VitTower | TextTower | BertTower


class Methods(Branch):
    """Base of all models."""

    config: PretrainedConfig
    base_model_prefix: ClassVar[str] = ""
    main_input_name: ClassVar[str] = "input_ids"
    supports_gradient_checkpointing: ClassVar[bool] = True
    embeddings_at: ClassVar[str] = ""  # path of the module whose output is the input of the first block

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the parameters."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())

    @property
    def base_model(self) -> nn.Module:
        """The model itself, as for transformers' CLIP models."""
        return self

    @property
    def name_or_path(self) -> str:
        """The name that the model was loaded by; empty for a new one."""
        return self.config.name_or_path

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return the number of parameters, without the tables of tokens and positions if `exclude_embeddings`."""
        tables = {id(each.weight) for each in self.modules() if isinstance(each, nn.Embedding)}
        chosen = (p for p in self.parameters() if not (exclude_embeddings and id(p) in tables))
        return sum(p.numel() for p in chosen if p.requires_grad or not only_trainable)

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Return the bytes of the parameters, and of the buffers if `return_buffers`."""
        tensors: list[Tensor] = [*self.parameters(), *(self.buffers() if return_buffers else ())]
        return sum(each.nelement() * each.element_size() for each in tensors)

    @classmethod
    def can_generate(cls) -> bool:
        """Return False: these models do not generate text."""
        return False

    def init_weights(self) -> None:
        """Do nothing: constructors draw the weights, and from_pretrained reads all of them."""

    def tie_weights(self, **options: Any) -> None:
        """Do nothing: no two parameters of these models are the same."""
        del options

    def get_input_embeddings(self) -> nn.Module:
        """Return the table of the text tower's tokens; for an image tower alone, the layer that reads patches."""
        return self.get_submodule(self.embeddings_at)

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the module that get_input_embeddings returns."""
        owner, _, name = self.embeddings_at.rpartition(".")
        setattr(self.get_submodule(owner), name, value)

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """Return the table of tokens with another number of rows; new rows are the mean of the old ones.

        mean_resizing=False draws them from a normal distribution instead. Raises InputError for an image tower.
        """
        table = self.get_input_embeddings()
        if not isinstance(table, nn.Embedding):
            raise InputError(f"{type(self).__name__} has no table of tokens: resize that of a model with a text tower")
        size = table.num_embeddings if new_num_tokens is None else new_num_tokens
        size = size if pad_to_multiple_of is None else math.ceil(size / pad_to_multiple_of) * pad_to_multiple_of
        if size < 1:
            raise InputError(f"new_num_tokens is {size}, expected at least 1, for example len(tokenizer)")
        if size == table.num_embeddings:
            return table
        old = table.weight
        resized = nn.Embedding(size, table.embedding_dim, table.padding_idx, device=old.device, dtype=old.dtype)
        with torch.no_grad():
            resized.weight.normal_(0, 0.02)
            resized.weight[len(old) :] = old.mean(dim=0) if mean_resizing else resized.weight[len(old) :]
            resized.weight[: len(old)] = old[:size]
        resized.weight.requires_grad = old.requires_grad
        self.set_input_embeddings(resized)
        for tower in cast(list[Any], towers_of(self)):
            if not isinstance(tower, VitTower):
                tower.config = replace(tower.config, vocab=size)
        self.config.set_vocab_size(size)
        return resized

    def enable_input_require_grads(self) -> None:
        """Let gradients pass to the outputs of the input embeddings, which frozen models with adapters need."""
        self.disable_input_require_grads()
        hook = self.get_input_embeddings().register_forward_hook(_require_gradient)
        self.__dict__["_input_hook"] = hook

    def disable_input_require_grads(self) -> None:
        """Undo enable_input_require_grads."""
        hook = self.__dict__.pop("_input_hook", None)
        if hook is not None:
            hook.remove()

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether blocks are computed again in the backward pass."""
        return any("forward" in vars(block) for block in _blocks(self))

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None) -> None:
        """Compute each block again in the backward pass of training: less memory, more time, the same gradients.

        gradient_checkpointing_kwargs: options of torch.utils.checkpoint.checkpoint; use_reentrant is False by default.
        """
        options = {"use_reentrant": False} | dict(gradient_checkpointing_kwargs or {})
        for block in _blocks(self):
            block.forward = partial(_checkpointed, block, options)

    def gradient_checkpointing_disable(self) -> None:
        """Undo gradient_checkpointing_enable."""
        for block in _blocks(self):
            vars(block).pop("forward", None)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the files of save_pretrained to Hugging Face's hub; return the commit's URL. See `hub.push`."""
        return push(cast(Saved, self), repo_id, options)


def towers_of(model: nn.Module) -> list[EncoderTower]:
    """Return the transformer towers below a model."""
    parts = [module.part if isinstance(module, Branch) else module for module in model.modules()]
    found = [part for part in parts if isinstance(part, VitTower | TextTower | BertTower)]
    return list(dict.fromkeys(found))


def _blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of a model's towers, without the published names around them."""
    return parts_of(block for tower in towers_of(model) for block in tower.blocks)


def parts_of(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Return the modules that compute, where the tree of published names surrounds them."""
    return [each.part if isinstance(each, Branch) and each.part is not None else each for each in modules]


def _checkpointed(block: nn.Module, options: Mapping[str, Any], *args: Any) -> Any:
    run: Callable[..., Any] = partial(type(block).forward, block)
    if not (block.training and torch.is_grad_enabled()):
        return run(*args)
    return cast(Any, checkpoint).checkpoint(run, *args, **options)


def _require_gradient(module: nn.Module, inputs: Any, output: Tensor) -> None:
    del module, inputs
    output.requires_grad_(True)
