"""transformers' single towers: CLIP's and Chinese-CLIP's text and image models, with and without projection.

n pictures, m texts, L tokens, D width, E joint width. Refuses: inputs that do not fit, arguments that are not known,
a pooler that the checkpoint does not hold.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
from torch import Tensor, nn

from cjkclip.checkpoints import Found
from cjkclip.checkpoints.formats.bert import bert_rows
from cjkclip.checkpoints.formats.transformers import text_rows, vision_rows
from cjkclip.compat.transformers.configs import clip as configs
from cjkclip.compat.transformers.configs.configuration import PretrainedConfig
from cjkclip.compat.transformers.models import checks as inputs
from cjkclip.compat.transformers.models.outputs import (
    BaseModelOutputWithPooling,
    CLIPTextModelOutput,
    CLIPVisionModelOutput,
    ModelOutput,
)
from cjkclip.compat.transformers.models.pretrained import Flags, PreTrainedModel, Seen, attentions, recorded
from cjkclip.compat.transformers.models.tree import Branch, plant
from cjkclip.config import Bert, Model, Text, Vit
from cjkclip.engines.torch.blocks import PostBlock
from cjkclip.engines.torch.towers import BertTower, TextTower, Towers, VitTower
from cjkclip.errors import InputError, LayoutError

Output = ModelOutput | tuple[Any, ...]
_M = TypeVar("_M", bound="Tower")


class Tower(PreTrainedModel):
    """One tower without its projection."""

    @classmethod
    def over(cls: type[_M], config: PretrainedConfig, tower: nn.Module) -> _M:
        """A model of a tower that exists, sharing its parameters."""
        model = cls.__new__(cls)
        Branch.__init__(model)
        model.config = config
        model.hold(tower)
        return model

    def hold(self, tower: nn.Module) -> None:
        """Put a tower under its published names."""
        raise NotImplementedError

    def _output(self, wanted: Flags, states: Tensor, pooled: Tensor | None, seen: Seen) -> Output:
        """What a call returns, as an object or as a tuple."""
        output = BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled, **seen._asdict())
        return output if wanted.dictionary else output.to_tuple()


class CLIPTextModel(Tower):
    """The causal text tower."""

    config_class = configs.CLIPTextConfig

    @classmethod
    def _model(cls, config: PretrainedConfig, params: Mapping[str, np.ndarray] | None = None) -> Model:
        del params
        model = config.to_model()
        assert isinstance(model.text, Text)
        return replace(model, text=replace(model.text, project=False))

    def _take(self, towers: Towers) -> None:
        assert towers.text is not None
        self.hold(towers.text)

    def hold(self, tower: nn.Module) -> None:
        """Without the tower's projection."""
        assert isinstance(tower, TextTower)
        tower.proj = nn.Identity()
        plant(self, tower, "text", text_rows(""))
        for attention in attentions(self):
            attention.probs.p = float(self.config.attention_dropout)

    @property
    def text_model(self: _M) -> _M:
        """Itself: transformers 4 has this name in between."""
        return self

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **flags: Any,
    ) -> Output:
        """Every token, normalised, and the one at the end of the text."""
        wanted, tower = self._flags(flags), cast(TextTower, self.part)
        ids = inputs.token_ids(input_ids, tower.config.vocab, tower.config.context)
        mask = inputs.kept(attention_mask, ids)
        positions = inputs.rows(position_ids, "position_ids", tower.config.context, ids)
        with recorded(tower.blocks, wanted) as seen:
            states = tower.states(ids, mask, positions)
        return self._output(wanted, states, tower.pool(states, ids), seen())


class ChineseCLIPTextModel(Tower):
    """The BERT text tower. Its pooler is no part of ChineseCLIPModel: such a checkpoint gives a tower without one."""

    config_class = configs.ChineseCLIPTextConfig
    pooler: nn.Module | None

    def __init__(self, config: PretrainedConfig, add_pooling_layer: bool = True) -> None:
        """Random weights."""
        super().__init__(config)
        if not add_pooling_layer:
            self._cut()

    @classmethod
    def _model(cls, config: PretrainedConfig, params: Mapping[str, np.ndarray] | None = None) -> Model:
        model = config.to_model()
        assert isinstance(model.text, Bert)
        if params is None or "text.pooler.weight" in params or "text.proj.weight" not in params:
            return model
        return replace(model, text=replace(model.text, head="project"), embed=len(params["text.proj.weight"]))

    @classmethod
    def from_found(
        cls: type[_M],
        found: Found,
        source: str,
        record: Mapping[str, Any] | None,
        config: PretrainedConfig | None,
        options: Mapping[str, Any],
    ) -> _M:
        """As the other models; add_pooling_layer=True refuses a checkpoint without a pooler, False leaves it out."""
        wanted = options.get("add_pooling_layer")
        rest = {name: value for name, value in options.items() if name != "add_pooling_layer"}
        model = super().from_found(found, source, record, config, rest)
        if wanted and model.pooler is None:
            raise LayoutError(f"{source}: it holds no pooler; its text features need none: add_pooling_layer=False")
        if wanted is False:
            model._cut()
        return model

    def _cut(self) -> None:
        """Leave the pooler out."""
        if self.pooler is not None:
            del self.pooler
        self.pooler = cast(BertTower, self.part).pooler = None

    def _take(self, towers: Towers) -> None:
        assert towers.text is not None
        self.hold(towers.text)

    def hold(self, tower: nn.Module) -> None:
        """Without the tower's projection."""
        assert isinstance(tower, BertTower)
        tower.proj = None
        tower.token.padding_idx = self.config.pad_token_id  # it gets no gradient
        if tower.pooler is None:
            self.pooler = None
        plant(self, tower, "text", bert_rows(""))
        blocks = [block.part for block in tower.blocks if isinstance(block, Branch)]
        for holder in (tower, *(block for block in blocks if isinstance(block, PostBlock))):
            holder.drop.p = float(self.config.hidden_dropout_prob)
        for attention in attentions(self):
            attention.probs.p = float(self.config.attention_probs_dropout_prob)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **flags: Any,
    ) -> Output:
        """Every token, and the first through the pooler (None without one). inputs_embeds: vectors instead of ids."""
        wanted, tower = self._flags(flags), cast(BertTower, self.part)
        if input_ids is not None and inputs_embeds is not None:
            raise InputError("got both input_ids and inputs_embeds: pass one of them")
        table = tower.config
        if inputs_embeds is None:
            tokens = inputs.token_ids(input_ids, table.vocab, table.context)
        else:
            tokens = inputs.vectors(inputs_embeds, table.width, table.context)
        mask = inputs.kept(attention_mask, tokens)
        positions = inputs.rows(position_ids, "position_ids", table.context, tokens)
        types = inputs.rows(token_type_ids, "token_type_ids", table.types, tokens)
        with recorded(tower.blocks, wanted) as seen:
            states = tower.states(tokens, mask, positions, types)
        pooled = None if tower.pooler is None else tower.pool(states)
        return self._output(wanted, states, pooled, seen())


class CLIPVisionModel(Tower):
    """The image tower."""

    config_class = configs.CLIPVisionConfig

    @classmethod
    def _model(cls, config: PretrainedConfig, params: Mapping[str, np.ndarray] | None = None) -> Model:
        del params
        model = config.to_model()
        assert isinstance(model.vision, Vit)
        return replace(model, vision=replace(model.vision, project=False))

    def _take(self, towers: Towers) -> None:
        assert towers.vision is not None
        self.hold(towers.vision)

    def hold(self, tower: nn.Module) -> None:
        """Without the tower's projection."""
        assert isinstance(tower, VitTower)
        tower.proj = nn.Identity()
        plant(self, tower, "vision", vision_rows(""))
        for attention in attentions(self):
            attention.probs.p = float(self.config.attention_dropout)

    @property
    def vision_model(self: _M) -> _M:
        """Itself: transformers 4 has this name in between."""
        return self

    def forward(
        self, pixel_values: Tensor | None = None, interpolate_pos_encoding: bool | None = False, **flags: Any
    ) -> Output:
        """Every patch after the last block, and the class token, normalised."""
        wanted, tower = self._flags(flags), cast(VitTower, self.part)
        stretch = bool(interpolate_pos_encoding)
        pixels = inputs.pictures(pixel_values, self.config.image_size, tower.patch.weight, stretch)
        with recorded(tower.blocks, wanted) as seen:
            states = tower.states(pixels, stretch)
        return self._output(wanted, states, tower.pool(states), seen())


class ChineseCLIPVisionModel(CLIPVisionModel):
    """The same tower under Chinese-CLIP's name."""

    config_class = configs.ChineseCLIPVisionConfig


class CLIPTextModelWithProjection(PreTrainedModel):
    """The causal text tower and its projection."""

    config_class = configs.CLIPTextConfig

    def _take(self, towers: Towers) -> None:
        assert isinstance(towers.text, TextTower)
        self.text_projection = towers.text.proj
        self.text_model = CLIPTextModel.over(self.config, towers.text)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **flags: Any,
    ) -> Output:
        """text_embeds (m, E), not normalised, and the tower's states."""
        found: Any = self.text_model(input_ids, attention_mask, position_ids, **self._asked(flags))
        embeds = self.text_projection(found.pooler_output)
        inner = {name: found[name] for name in found if name != "pooler_output"}
        output = CLIPTextModelOutput(text_embeds=embeds, **inner)
        return output if self._flags(flags).dictionary else output.to_tuple()


class CLIPVisionModelWithProjection(PreTrainedModel):
    """The image tower and its projection."""

    config_class = configs.CLIPVisionConfig

    def _take(self, towers: Towers) -> None:
        assert isinstance(towers.vision, VitTower)
        self.visual_projection = towers.vision.proj
        self.vision_model = CLIPVisionModel.over(self.config, towers.vision)

    def forward(
        self, pixel_values: Tensor | None = None, interpolate_pos_encoding: bool = False, **flags: Any
    ) -> Output:
        """image_embeds (n, E), not normalised, and the tower's states."""
        found: Any = self.vision_model(pixel_values, interpolate_pos_encoding, **self._asked(flags))
        embeds = self.visual_projection(found.pooler_output)
        inner = {name: found[name] for name in found if name != "pooler_output"}
        output = CLIPVisionModelOutput(image_embeds=embeds, **inner)
        return output if self._flags(flags).dictionary else output.to_tuple()
