"""transformers' models of two towers. n images, m texts, E joint width.

`get_*_features` return tensors, not normalised, that also have the fields of version 5. `text_model_output` and
`vision_model_output` are the outputs of the towers, before any projection.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cjkclip.compat.transformers.configs import clip as configs
from cjkclip.compat.transformers.configs.configuration import PretrainedConfig
from cjkclip.compat.transformers.models.features import features
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
    """Base of models with two towers and a logit_scale."""

    output: ClassVar[type[ModelOutput]] = CLIPOutput
    logit_scale: nn.Parameter | None

    def _compare(self, text: Tensor, image: Tensor, inner: Mapping[str, Any], flags: Flags, loss: bool) -> Output:
        """Return the output for features (m, E) and (n, E). Raises InputError if the loss is undefined."""
        text, image = F.normalize(text, dim=-1), F.normalize(image, dim=-1)
        scale = self._scale()
        per_text = text @ image.T * scale
        fields = {"logits_per_image": per_text.T, "logits_per_text": per_text, "text_embeds": text}
        if loss:
            if text.shape[0] != image.shape[0]:
                raise InputError(
                    f"return_loss=True needs one text per image, got {len(text)} texts and {len(image)} images: "
                    "pass as many texts as images, or return_loss=False"
                )
            pairs = torch.eye(text.shape[0], dtype=torch.bool, device=text.device)
            fields["loss"] = contrastive(image, text, scale, pairs)
        output = self.output(fields, image_embeds=image, **inner)
        return output if flags.dictionary else output.to_tuple()

    def _scale(self) -> Tensor:
        assert self.logit_scale is not None
        return self.logit_scale.exp()


class CLIPModel(Joint):
    """CLIP: a ViT and a causal text tower."""

    config_class = configs.CLIPConfig
    base_model_prefix = "clip"
    embeddings_at = "text_model.embeddings.token_embedding"
    text_class: ClassVar[type[Tower]] = CLIPTextModel
    vision_class: ClassVar[type[Tower]] = CLIPVisionModel
    text_model: Tower
    vision_model: Tower
    text_projection: nn.Module
    visual_projection: nn.Module

    def __init__(self, config: PretrainedConfig) -> None:
        """Build a model with random weights and the configuration's scale."""
        super().__init__(config)
        with torch.no_grad():
            assert self.logit_scale is not None
            self.logit_scale.fill_(self.config.logit_scale_init_value)

    def _take(self, towers: Towers) -> None:
        assert isinstance(towers.vision, VitTower)
        assert towers.text is not None
        self.logit_scale = towers.logit_scale
        # taken first, because `over` removes the projections from the towers
        image_head, text_head = towers.vision.proj, cast(nn.Module, towers.text.proj)
        self.text_model = self.text_class.over(self.config.text_config, towers.text)
        self.vision_model = self.vision_class.over(self.config.vision_config, towers.vision)
        self.visual_projection, self.text_projection = image_head, text_head

    def get_text_features(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **flags: Any,
    ) -> Tensor:
        """Return features (m, E), not normalised."""
        tower_output: Any = self.text_model(input_ids, attention_mask, position_ids, **self._tower_flags(flags))
        return features(self.text_projection(tower_output.pooler_output), tower_output, flags.get("return_dict"))

    def get_image_features(
        self, pixel_values: Tensor | None = None, interpolate_pos_encoding: bool = False, **flags: Any
    ) -> Tensor:
        """Return features (n, E), not normalised."""
        tower_output: Any = self.vision_model(pixel_values, interpolate_pos_encoding, **self._tower_flags(flags))
        return features(self.visual_projection(tower_output.pooler_output), tower_output, flags.get("return_dict"))

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
        """Return scaled cosine similarities of all images and texts; the loss pairs text i with image i."""
        outputs = self._tower_flags(flags)
        vision_output: Any = self.vision_model(pixel_values, interpolate_pos_encoding, **outputs)
        text_output: Any = self.text_model(input_ids, attention_mask, position_ids, **outputs)
        text = self.text_projection(text_output.pooler_output)
        image = self.visual_projection(vision_output.pooler_output)
        inner = {"text_model_output": text_output, "vision_model_output": vision_output}
        return self._compare(text, image, inner, self._flags(flags), bool(return_loss))


class ChineseCLIPModel(CLIPModel):
    """Chinese-CLIP. The text feature is the projected state of the first token; there is no pooler."""

    config_class = configs.ChineseCLIPConfig
    base_model_prefix = "chinese_clip"
    embeddings_at = "text_model.embeddings.word_embeddings"
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
        """Return features (m, E), not normalised."""
        outputs = self._tower_flags(flags)
        tower_output: Any = self.text_model(input_ids, attention_mask, token_type_ids, position_ids, **outputs)
        vectors = self.text_projection(tower_output.last_hidden_state[:, 0])
        return features(vectors, tower_output, flags.get("return_dict"))

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
        """Return scaled cosine similarities of all images and texts; the loss pairs text i with image i."""
        outputs = self._tower_flags(flags)
        vision_output: Any = self.vision_model(pixel_values, interpolate_pos_encoding, **outputs)
        text_output: Any = self.text_model(input_ids, attention_mask, token_type_ids, position_ids, **outputs)
        text = self.text_projection(text_output.last_hidden_state[:, 0])
        image = self.visual_projection(vision_output.pooler_output)
        inner = {"text_model_output": text_output, "vision_model_output": vision_output}
        return self._compare(text, image, inner, self._flags(flags), bool(return_loss))
