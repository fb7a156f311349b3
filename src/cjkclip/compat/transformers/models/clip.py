"""transformers' models of two towers. n pictures, m texts, E width.

`get_*_features` return tensors that are not normalised, as transformers 4 does. `text_model_output` and
`vision_model_output` are what the towers give, before any projection. Refuses: inputs that do not fit, arguments
that are not known.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cjkclip.compat.transformers.configs import clip as configs
from cjkclip.compat.transformers.configs.configuration import PretrainedConfig
from cjkclip.compat.transformers.models.outputs import ChineseCLIPOutput, CLIPOutput, ModelOutput
from cjkclip.compat.transformers.models.pretrained import Flags, PreTrainedModel
from cjkclip.compat.transformers.models.towers import (
    ChineseCLIPTextModel,
    ChineseCLIPVisionModel,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    Output,
    Tower,
)
from cjkclip.engines.torch.loss import contrastive
from cjkclip.engines.torch.towers import Towers, VitTower
from cjkclip.errors import InputError

__all__ = [
    "CLIPModel",
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
    "CLIPVisionModel",
    "CLIPVisionModelWithProjection",
    "ChineseCLIPModel",
    "ChineseCLIPTextModel",
    "ChineseCLIPVisionModel",
]


class Joint(PreTrainedModel):
    """Two towers and a scale."""

    output: ClassVar[type[ModelOutput]] = CLIPOutput
    logit_scale: nn.Parameter | None

    def _compare(self, text: Tensor, image: Tensor, inner: Mapping[str, Any], flags: Flags, loss: bool) -> Output:
        """The output for features (m, E) and (n, E). Raises InputError where there is no loss."""
        text, image = F.normalize(text, dim=-1), F.normalize(image, dim=-1)
        scale = self._scale()
        per_text = text @ image.T * scale
        found = {"logits_per_image": per_text.T, "logits_per_text": per_text, "text_embeds": text}
        if loss:
            if len(text) != len(image):
                raise InputError(f"return_loss=True needs a text for each picture, got {len(text)} for {len(image)}")
            right = torch.eye(len(text), dtype=torch.bool, device=text.device)
            found["loss"] = contrastive(image, text, scale, right)
        output = self.output(found, image_embeds=image, **inner)
        return output if flags.dictionary else output.to_tuple()

    def _scale(self) -> Tensor:
        assert self.logit_scale is not None
        return self.logit_scale.exp()


class CLIPModel(Joint):
    """CLIP."""

    config_class = configs.CLIPConfig
    text_class: ClassVar[type[Tower]] = CLIPTextModel
    vision_class: ClassVar[type[Tower]] = CLIPVisionModel
    text_model: Tower
    vision_model: Tower
    text_projection: nn.Module
    visual_projection: nn.Module

    def __init__(self, config: PretrainedConfig) -> None:
        """Random weights, and the configuration's scale."""
        super().__init__(config)
        with torch.no_grad():
            assert self.logit_scale is not None
            self.logit_scale.fill_(self.config.logit_scale_init_value)

    def _take(self, towers: Towers) -> None:
        assert isinstance(towers.vision, VitTower)
        assert towers.text is not None
        self.logit_scale = towers.logit_scale
        seen, read = towers.vision.proj, cast(nn.Module, towers.text.proj)  # `over` takes them off the towers
        self.text_model = self.text_class.over(self.config.text_config, towers.text)
        self.vision_model = self.vision_class.over(self.config.vision_config, towers.vision)
        self.visual_projection, self.text_projection = seen, read

    def get_text_features(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **flags: Any,
    ) -> Tensor:
        """(m, E), not normalised."""
        found: Any = self.text_model(input_ids, attention_mask, position_ids, **self._asked(flags))
        return self.text_projection(found.pooler_output)

    def get_image_features(
        self, pixel_values: Tensor | None = None, interpolate_pos_encoding: bool = False, **flags: Any
    ) -> Tensor:
        """(n, E), not normalised."""
        found: Any = self.vision_model(pixel_values, interpolate_pos_encoding, **self._asked(flags))
        return self.visual_projection(found.pooler_output)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        return_loss: bool | None = None,
        interpolate_pos_encoding: bool = False,
        **flags: Any,
    ) -> Output:
        """Scaled cosines of every picture with every text; the loss takes text i to belong to picture i."""
        asked = self._asked(flags)
        seen: Any = self.vision_model(pixel_values, interpolate_pos_encoding, **asked)
        read: Any = self.text_model(input_ids, attention_mask, position_ids, **asked)
        text, image = self.text_projection(read.pooler_output), self.visual_projection(seen.pooler_output)
        inner = {"text_model_output": read, "vision_model_output": seen}
        return self._compare(text, image, inner, self._flags(flags), bool(return_loss))


class ChineseCLIPModel(CLIPModel):
    """Chinese-CLIP. Its text feature is the first token's state, projected; there is no pooler."""

    config_class = configs.ChineseCLIPConfig
    output = ChineseCLIPOutput
    text_class = ChineseCLIPTextModel
    vision_class = ChineseCLIPVisionModel

    def get_text_features(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        **flags: Any,
    ) -> Tensor:
        """(m, E), not normalised."""
        asked = self._asked(flags)
        found: Any = self.text_model(input_ids, attention_mask, token_type_ids, position_ids, **asked)
        return self.text_projection(found.last_hidden_state[:, 0])

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
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
        asked = self._asked(flags)
        seen: Any = self.vision_model(pixel_values, interpolate_pos_encoding, **asked)
        read: Any = self.text_model(input_ids, attention_mask, token_type_ids, position_ids, **asked)
        text, image = self.text_projection(read.last_hidden_state[:, 0]), self.visual_projection(seen.pooler_output)
        inner = {"text_model_output": read, "vision_model_output": seen}
        return self._compare(text, image, inner, self._flags(flags), bool(return_loss))
