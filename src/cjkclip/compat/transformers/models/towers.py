"""transformers' single towers: CLIP's and Chinese-CLIP's text and image models, with and without projection.

n images, m texts, L tokens, D width, E joint width.
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
from cjkclip.compat.transformers.models import checks
from cjkclip.compat.transformers.models.outputs import (
    BaseModelOutputWithPooling,
    CLIPTextModelOutput,
    CLIPVisionModelOutput,
    ModelOutput,
)
from cjkclip.compat.transformers.models.pretrained import Flags, PreTrainedModel, Recording, attentions, record_states
from cjkclip.compat.transformers.models.tree import Branch, plant
from cjkclip.config import Bert, Model, Text, Vit
from cjkclip.engines.torch.blocks import PostBlock
from cjkclip.engines.torch.towers import BertTower, TextTower, Towers, VitTower
from cjkclip.errors import InputError, LayoutError

Output = ModelOutput | tuple[Any, ...]
_M = TypeVar("_M", bound="Tower")


class Tower(PreTrainedModel):
    """Base of single towers without projection."""

    @classmethod
    def over(cls: type[_M], config: PretrainedConfig, tower: nn.Module) -> _M:
        """Build a model on an existing tower, whose parameters it shares."""
        model = cls.__new__(cls)
        Branch.__init__(model)
        model.config = config
        model.hold(tower)
        return model

    def hold(self, tower: nn.Module) -> None:
        """Store a tower under its published names."""
        raise NotImplementedError

    def _output(self, flags: Flags, states: Tensor, pooled: Tensor | None, recording: Recording) -> Output:
        """Return the output of a call, as an object or as a tuple."""
        output = BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled, **recording._asdict())
        return output if flags.dictionary else output.to_tuple()


class CLIPTextModel(Tower):
    """The causal text tower, without projection."""

    config_class = configs.CLIPTextConfig
    embeddings_at = "embeddings.token_embedding"

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
        """Store a tower under its published names, without its projection."""
        assert isinstance(tower, TextTower)
        tower.proj = nn.Identity()
        plant(self, tower, "text", text_rows(""))
        for attention in attentions(self):
            attention.probs.p = float(self.config.attention_dropout)

    @property
    def text_model(self: _M) -> _M:
        """The model itself: transformers 4 has this extra level of names."""
        return self

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **flags: Any,
    ) -> Output:
        """Return the normalised states of all tokens, and the state at the end token."""
        outputs, tower = self._flags(flags), cast(TextTower, self.part)
        ids = checks.token_ids(input_ids, tower.config.vocab, tower.config.context)
        mask = checks.token_mask(attention_mask, ids)
        positions = checks.rows(position_ids, "position_ids", tower.config.context, ids)
        with record_states(tower.blocks, outputs) as recording:
            states = tower.states(ids, mask, positions)
        return self._output(outputs, states, tower.pool(states, ids), recording())


class ChineseCLIPTextModel(Tower):
    """The BERT text tower. Checkpoints of ChineseCLIPModel have no pooler, so the tower loaded from one has none."""

    config_class = configs.ChineseCLIPTextConfig
    embeddings_at = "embeddings.word_embeddings"
    pooler: nn.Module | None

    def __init__(self, config: PretrainedConfig, add_pooling_layer: bool = True) -> None:
        """Build a tower with random weights."""
        super().__init__(config)
        if not add_pooling_layer:
            self._remove_pooler()

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
        """Build the tower; add_pooling_layer=True raises LayoutError if it has no pooler, False removes the pooler."""
        add_pooler = options.get("add_pooling_layer")
        rest = {name: value for name, value in options.items() if name != "add_pooling_layer"}
        model = super().from_found(found, source, record, config, rest)
        if add_pooler and model.pooler is None:
            raise LayoutError(
                f"{source} contains no pooler, but add_pooling_layer=True needs one; its text features do not: "
                "ChineseCLIPTextModel.from_pretrained(name, add_pooling_layer=False)"
            )
        if add_pooler is False:
            model._remove_pooler()
        return model

    def _remove_pooler(self) -> None:
        """Remove the pooler, if the tower has one."""
        if self.pooler is not None:
            del self.pooler
        self.pooler = cast(BertTower, self.part).pooler = None

    def _take(self, towers: Towers) -> None:
        assert towers.text is not None
        self.hold(towers.text)

    def hold(self, tower: nn.Module) -> None:
        """Store a tower under its published names, without its projection."""
        assert isinstance(tower, BertTower)
        tower.proj = None
        tower.token.padding_idx = self.config.pad_token_id  # the padding row gets no gradient
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
        """Return the states of all tokens, and the pooled first one or None. inputs_embeds: vectors instead of ids."""
        outputs, tower = self._flags(flags), cast(BertTower, self.part)
        if input_ids is not None and inputs_embeds is not None:
            raise InputError("got both input_ids and inputs_embeds, expected one of them: leave inputs_embeds out")
        config = tower.config
        if inputs_embeds is None:
            tokens = checks.token_ids(input_ids, config.vocab, config.context)
        else:
            tokens = checks.vectors(inputs_embeds, config.width, config.context)
        mask = checks.token_mask(attention_mask, tokens)
        positions = checks.rows(position_ids, "position_ids", config.context, tokens)
        types = checks.rows(token_type_ids, "token_type_ids", config.types, tokens)
        with record_states(tower.blocks, outputs) as recording:
            states = tower.states(tokens, mask, positions, types)
        pooled = None if tower.pooler is None else tower.pool(states)
        return self._output(outputs, states, pooled, recording())


class CLIPVisionModel(Tower):
    """The image tower, without projection."""

    config_class = configs.CLIPVisionConfig
    embeddings_at = "embeddings.patch_embedding"
    main_input_name = "pixel_values"

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
        """Store a tower under its published names, without its projection."""
        assert isinstance(tower, VitTower)
        tower.proj = nn.Identity()
        plant(self, tower, "vision", vision_rows(""))
        for attention in attentions(self):
            attention.probs.p = float(self.config.attention_dropout)

    @property
    def vision_model(self: _M) -> _M:
        """The model itself: transformers 4 has this extra level of names."""
        return self

    def forward(
        self, pixel_values: Tensor | None = None, interpolate_pos_encoding: bool | None = False, **flags: Any
    ) -> Output:
        """Return the states of all patches after the last block, and the normalised class token."""
        outputs, tower = self._flags(flags), cast(VitTower, self.part)
        stretch = bool(interpolate_pos_encoding)
        pixels = checks.pictures(pixel_values, self.config.image_size, tower.patch.weight, stretch)
        with record_states(tower.blocks, outputs) as recording:
            states = tower.states(pixels, stretch)
        return self._output(outputs, states, tower.pool(states), recording())


class ChineseCLIPVisionModel(CLIPVisionModel):
    """The same image tower, under Chinese-CLIP's name."""

    config_class = configs.ChineseCLIPVisionConfig


class CLIPTextModelWithProjection(PreTrainedModel):
    """The causal text tower and its projection."""

    config_class = configs.CLIPTextConfig
    embeddings_at = "text_model.embeddings.token_embedding"

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
        """Return text_embeds (m, E), not normalised, and the tower's states."""
        tower_output: Any = self.text_model(input_ids, attention_mask, position_ids, **self._tower_flags(flags))
        embeds = self.text_projection(tower_output.pooler_output)
        inner = {name: tower_output[name] for name in tower_output if name != "pooler_output"}
        output = CLIPTextModelOutput(text_embeds=embeds, **inner)
        return output if self._flags(flags).dictionary else output.to_tuple()


class CLIPVisionModelWithProjection(PreTrainedModel):
    """The image tower and its projection."""

    config_class = configs.CLIPVisionConfig
    embeddings_at = "vision_model.embeddings.patch_embedding"
    main_input_name = "pixel_values"

    def _take(self, towers: Towers) -> None:
        assert isinstance(towers.vision, VitTower)
        self.visual_projection = towers.vision.proj
        self.vision_model = CLIPVisionModel.over(self.config, towers.vision)

    def forward(
        self, pixel_values: Tensor | None = None, interpolate_pos_encoding: bool = False, **flags: Any
    ) -> Output:
        """Return image_embeds (n, E), not normalised, and the tower's states."""
        tower_output: Any = self.vision_model(pixel_values, interpolate_pos_encoding, **self._tower_flags(flags))
        embeds = self.visual_projection(tower_output.pooler_output)
        inner = {name: tower_output[name] for name in tower_output if name != "pooler_output"}
        output = CLIPVisionModelOutput(image_embeds=embeds, **inner)
        return output if self._flags(flags).dictionary else output.to_tuple()
