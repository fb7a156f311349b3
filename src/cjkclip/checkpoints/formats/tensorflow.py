"""transformers' TFCLIPModel: Keras variables in tf_model.h5. All other files are CLIPModel's. Read only.

Facts: transformers 4.57.6 (modeling_tf_clip), the last version with TensorFlow. A variable's path in the file begins
with the names of its layer and its model, which are removed before these rows are used.
"""

from dataclasses import replace
from pathlib import Path

from cjkclip.checkpoints.formats import Parts
from cjkclip.checkpoints.formats.flax import Tree, tree_rows
from cjkclip.checkpoints.formats.transformers import CLIP_MODEL
from cjkclip.checkpoints.layouts import Layout
from cjkclip.errors import LayoutError


def _reject(parts: Parts, folder: Path) -> None:
    """Raise LayoutError: this layout is read only."""
    del parts, folder
    raise LayoutError(
        "layout 'tensorflow' can be read but not written. Use save(folder, layout=\"transformers\"); "
        "TFCLIPModel.from_pretrained(folder) of transformers 4 reads that"
    )


TF_CLIP = replace(
    CLIP_MODEL,
    layout=Layout(
        name="tensorflow",
        rows=tree_rows(
            Tree(
                root="clip/",
                block="layers_._{i}",
                token="weight",
                position="embeddings",
                norm=("gamma", "beta"),
                scale="scalar",
            )
        ),
        marks=("clip/text_model/final_layer_norm/gamma", "clip/vision_model/pre_layrnorm/gamma", "clip/logit_scale"),
        harmless=(),
    ),
    weights_file="tf_model.h5",
    write=_reject,
)
