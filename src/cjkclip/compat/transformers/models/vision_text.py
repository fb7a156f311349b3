"""transformers' interface for models without a class in transformers: rinna, Taiyi, moji, ResNet towers.

n images, m texts, L tokens, E joint width. `last_hidden_state` is the output of the last block; a ResNet has none.
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
from cjkclip.compat.transformers.models import checks
from cjkclip.compat.transformers.models.clip import Joint
from cjkclip.compat.transformers.models.features import features
from cjkclip.compat.transformers.models.outputs import BaseModelOutputWithPooling
from cjkclip.compat.transformers.models.pretrained import Flags, arrays, record_states
from cjkclip.compat.transformers.models.towers import Output
from cjkclip.engines.torch.resnet import ResNetTower
from cjkclip.engines.torch.towers import BertTower, TextTower, Towers, VitTower
from cjkclip.errors import InputError, LayoutError

_M = TypeVar("_M", bound="VisionTextModel")


class VisionTextModel(Joint):
    """Any two towers. Parameters have cjkclip's own names, and saving uses layout "cjkclip"."""

    config_class = configs.VisionTextConfig
    embeddings_at = "text.token"
    vision: VitTower | ResNetTower
    text: TextTower | BertTower
    _found: Found | None
    _size: int
    _factor: float

    @classmethod
    def from_found(
        cls: type[_M],
        found: Found,
        source: str,
        record: Mapping[str, Any] | None,
        config: PretrainedConfig | None,
        options: Mapping[str, Any],
    ) -> _M:
        """Build the model as the other classes do, and store the tokenizer, which is saved with it."""
        if found.config.vision is None or found.config.text is None:
            raise LayoutError(
                f"{source} contains one tower, but {cls.__name__} needs two; use AutoModel.from_pretrained(name)"
            )
        del record
        model = super().from_found(found, source, None, config, options)
        model.__dict__["_found"] = found
        return model

    def _take(self, towers: Towers) -> None:
        self.vision, self.text = cast(Any, towers.vision), cast(Any, towers.text)
        self.logit_scale = towers.logit_scale
        assert towers.config.vision is not None
        # constants of a call: torch.compile cannot derive them from the configuration
        self.__dict__.update(_found=None, _size=towers.config.vision.image_size, _factor=towers.config.scale or 1.0)

    def _scale(self) -> Tensor:
        """Return the factor from the parameter, or the config value of a model without one."""
        if self.logit_scale is not None:
            return super()._scale()
        return torch.tensor(self._factor, device=self.device)

    def _write(self, folder: Path, state: Mapping[str, Tensor], safe: bool) -> None:
        """Write a directory in layout "cjkclip", with the tokenizer, for AutoModel and cjkclip.load.

        Raises LayoutError for a model that was not loaded, or safe_serialization=False.
        """
        if self._found is None or not safe:
            raise LayoutError(
                f"this {type(self).__name__} can be saved only if it was loaded, and only as safetensors: "
                "VisionTextModel.from_pretrained(name).save_pretrained(folder)"
            )
        found = replace(self._found, config=self.config.to_model(), params=arrays(state))
        saving.write(found, folder, "cjkclip")

    def get_text_features(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        **flags: Any,
    ) -> Tensor:
        """Return features (m, E), not normalised."""
        encoded = self._encode_text(input_ids, attention_mask, token_type_ids, position_ids, self._flags(flags))
        return features(*encoded, flags.get("return_dict"))

    def get_image_features(
        self, pixel_values: Tensor | None = None, interpolate_pos_encoding: bool = False, **flags: Any
    ) -> Tensor:
        """Return features (n, E), not normalised."""
        encoded = self._encode_image(pixel_values, interpolate_pos_encoding, self._flags(flags))
        return features(*encoded, flags.get("return_dict"))

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
        """Return scaled cosine similarities of all images and texts; the loss pairs text i with image i."""
        outputs = self._flags(flags)
        image, vision_output = self._encode_image(pixel_values, interpolate_pos_encoding, outputs)
        text, text_output = self._encode_text(input_ids, attention_mask, token_type_ids, position_ids, outputs)
        inner = {"text_model_output": text_output, "vision_model_output": vision_output}
        return self._compare(text, image, inner, outputs, bool(return_loss))

    def _encode_image(
        self, pixel_values: Tensor | None, stretch: bool, flags: Flags
    ) -> tuple[Tensor, BaseModelOutputWithPooling]:
        """Return features and the tower's output."""
        tower, size = self.vision, self._size
        like = next(tower.parameters())
        if isinstance(tower, VitTower):
            pixels = checks.pictures(pixel_values, size, like, stretch)
            with record_states(tower.blocks, flags) as recording:
                states = tower.states(pixels, stretch)
            pooled = tower.pool(states)
            return tower.proj(pooled), BaseModelOutputWithPooling(
                last_hidden_state=states, pooler_output=pooled, **recording()._asdict()
            )
        if stretch or flags.hidden or flags.attentions:
            raise InputError(
                "this image tower is a ResNet, without positions to interpolate or states to return: leave out "
                "interpolate_pos_encoding, output_hidden_states and output_attentions"
            )
        vectors = tower(checks.pictures(pixel_values, size, like, stretch))
        return vectors, BaseModelOutputWithPooling(pooler_output=vectors)

    def _encode_text(
        self, ids: Tensor | None, mask: Tensor | None, types: Tensor | None, positions: Tensor | None, flags: Flags
    ) -> tuple[Tensor, BaseModelOutputWithPooling]:
        """Return features and the tower's output."""
        tower = self.text
        tokens = checks.token_ids(ids, tower.config.vocab, tower.config.context)
        mask = checks.token_mask(mask, tokens)
        rows = checks.rows(positions, "position_ids", tower.config.context, tokens)
        with record_states(tower.blocks, flags) as recording:
            if isinstance(tower, BertTower):
                kinds = checks.rows(types, "token_type_ids", tower.config.types, tokens)
                states = tower.states(tokens, mask, rows, kinds)
            else:
                states = tower.states(tokens, mask, rows)
        pooled = tower.pool(states, tokens)
        vectors = pooled if tower.proj is None else tower.proj(pooled)
        output = BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled, **recording()._asdict())
        return vectors, output
