"""transformers' interface for the families that it has no class for: rinna, Taiyi, moji, ResNet towers.

n pictures, m texts, L tokens, E joint width. `last_hidden_state` is what the last block gives; a ResNet has none.
Refuses: checkpoints of one tower, inputs that do not fit.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from cjkclip.checkpoints import Found, saving
from cjkclip.compat.transformers.configs import clip as configs
from cjkclip.compat.transformers.configs.configuration import PretrainedConfig
from cjkclip.compat.transformers.models import checks as inputs
from cjkclip.compat.transformers.models.clip import Joint
from cjkclip.compat.transformers.models.outputs import BaseModelOutputWithPooling
from cjkclip.compat.transformers.models.pretrained import Flags, arrays, recorded
from cjkclip.compat.transformers.models.towers import Output
from cjkclip.engines.torch.resnet import ResNetTower
from cjkclip.engines.torch.towers import BertTower, TextTower, Towers, VitTower
from cjkclip.errors import InputError, LayoutError

_M = TypeVar("_M", bound="VisionTextModel")


class VisionTextModel(Joint):
    """Any two towers. Its parameters have our own names, and it is saved in our own layout."""

    config_class = configs.VisionTextConfig
    vision: VitTower | ResNetTower
    text: TextTower | BertTower
    _found: Found | None

    @classmethod
    def from_found(
        cls: type[_M],
        found: Found,
        source: str,
        record: Mapping[str, Any] | None,
        config: PretrainedConfig | None,
        options: Mapping[str, Any],
    ) -> _M:
        """As the other models; the tokenizer is kept, to be saved with it."""
        if found.config.vision is None or found.config.text is None:
            raise LayoutError(f"{source}: it holds one tower alone; load it by the class of that tower")
        del record
        model = super().from_found(found, source, None, config, options)
        model.__dict__["_found"] = found
        return model

    def _take(self, towers: Towers) -> None:
        self.vision, self.text = cast(Any, towers.vision), cast(Any, towers.text)
        self.logit_scale = towers.logit_scale
        self.__dict__["_found"] = None

    def _scale(self) -> Tensor:
        """The parameter, or the number of a model that has none."""
        if self.logit_scale is not None:
            return super()._scale()
        return torch.tensor(self.config.to_model().scale or 1.0, device=self.device)

    def save_pretrained(self, folder: str | Path, *, safe_serialization: bool = True) -> None:
        """Write a folder in layout "cjkclip", tokenizer included: AutoModel and cjkclip.load read it.

        Raises LayoutError for a model that was not loaded, or safe_serialization=False.
        """
        if self._found is None or not safe_serialization:
            raise LayoutError("layout 'cjkclip' is written as safetensors, for a model that was loaded")
        found = replace(self._found, config=self.config.to_model(), params=arrays(self.state_dict()))
        saving.write(found, Path(folder), "cjkclip")

    def get_text_features(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        **flags: Any,
    ) -> Tensor:
        """(m, E), not normalised."""
        return self._read(input_ids, attention_mask, token_type_ids, position_ids, self._flags(flags))[0]

    def get_image_features(
        self, pixel_values: Tensor | None = None, interpolate_pos_encoding: bool = False, **flags: Any
    ) -> Tensor:
        """(n, E), not normalised."""
        return self._see(pixel_values, interpolate_pos_encoding, self._flags(flags))[0]

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        return_loss: bool | None = None,
        interpolate_pos_encoding: bool = False,
        **flags: Any,
    ) -> Output:
        """Scaled cosines of every picture with every text; the loss takes text i to belong to picture i."""
        wanted = self._flags(flags)
        image, seen = self._see(pixel_values, interpolate_pos_encoding, wanted)
        text, read = self._read(input_ids, attention_mask, token_type_ids, position_ids, wanted)
        inner = {"text_model_output": read, "vision_model_output": seen}
        return self._compare(text, image, inner, wanted, bool(return_loss))

    def _see(
        self, pixel_values: Tensor | None, stretch: bool, flags: Flags
    ) -> tuple[Tensor, BaseModelOutputWithPooling]:
        """Features and the tower's output."""
        tower, size = self.vision, self.config.vision_config.image_size
        like = next(tower.parameters())
        if isinstance(tower, VitTower):
            pixels = inputs.pictures(pixel_values, size, like, stretch)
            with recorded(tower.blocks, flags) as seen:
                states = tower.states(pixels, stretch)
            pooled = tower.pool(states)
            return tower.proj(pooled), BaseModelOutputWithPooling(
                last_hidden_state=states, pooler_output=pooled, **seen()._asdict()
            )
        if stretch or flags.hidden or flags.attentions:
            raise InputError("this image tower is a ResNet: it has no positions to stretch and no states to return")
        features = tower(inputs.pictures(pixel_values, size, like, stretch))
        return features, BaseModelOutputWithPooling(pooler_output=features)

    def _read(
        self, ids: Tensor | None, mask: Tensor | None, types: Tensor | None, positions: Tensor | None, flags: Flags
    ) -> tuple[Tensor, BaseModelOutputWithPooling]:
        """Features and the tower's output."""
        tower = self.text
        tokens = inputs.token_ids(ids, tower.config.vocab, tower.config.context)
        kept = inputs.kept(mask, tokens)
        rows = inputs.rows(positions, "position_ids", tower.config.context, tokens)
        with recorded(tower.blocks, flags) as seen:
            if isinstance(tower, BertTower):
                kinds = inputs.rows(types, "token_type_ids", tower.config.types, tokens)
                states = tower.states(tokens, kept, rows, kinds)
            else:
                states = tower.states(tokens, kept, rows)
        pooled = tower.pool(states, tokens)
        features = pooled if tower.proj is None else tower.proj(pooled)
        output = BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled, **seen()._asdict())
        return features, output
