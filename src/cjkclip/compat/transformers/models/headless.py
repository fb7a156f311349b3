"""Read the BERT of a ChineseCLIPTextModel that was saved without a pooler; it computes states but no features."""

import numpy as np

from cjkclip import parameters
from cjkclip.checkpoints import Found, Source, layouts, weights
from cjkclip.checkpoints.families import family
from cjkclip.checkpoints.formats.bert import DEFAULTS, bert_rows, read_bert
from cjkclip.checkpoints.layouts import Layout
from cjkclip.compat.transformers.configs.configuration import config_record
from cjkclip.config import Model
from cjkclip.parameters import shapes

MODEL_TYPE = "chinese_clip_text_model"
MARK = "embeddings.word_embeddings.weight"
ROWS = tuple(row for row in bert_rows("") if "pooler" not in row.published)
LAYOUT = Layout(name=MODEL_TYPE, rows=ROWS, marks=(MARK,), harmless=("*position_ids",))


def without_head(source: Source) -> Found | None:
    """Return the tower of such a directory, with a projection to width 1 that no model uses; None for others."""
    record = config_record(source.name, source.folder)
    if record is None or record["model_type"] != MODEL_TYPE or not source.path.is_dir():
        return None
    tensors = weights.read(weights.find(source.path))
    if MARK not in tensors or any("pooler" in name for name in tensors):
        return None
    text = read_bert(DEFAULTS | record, "project")
    config = Model.from_dict({"vision": None, "text": text, "image": None, "scale": None, "embed": 1})
    params = layouts.read(LAYOUT, tensors, source.name)
    params["text.proj.weight"] = np.zeros((1, text["width"]), np.float32)
    parameters.check(params, shapes(config), source.name)
    return Found(
        config=config, params=params, tokenizer=None, family=family("chinese"), release=None, folder=source.folder
    )
