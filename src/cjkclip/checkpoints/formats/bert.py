"""BERT text towers under the names of transformers and cn_clip, and transformers' BertConfig.

Facts: transformers 5.23.0 (modeling_bert, configuration_bert). Post-norm blocks, token type 0 everywhere.
"""

from collections.abc import Mapping
from typing import Any, Literal

from cjkclip.checkpoints.formats import Checkpoint
from cjkclip.checkpoints.formats.transformers import encoder, encoder_json
from cjkclip.checkpoints.layouts import Row
from cjkclip.config import Bert, Head, Model, Roberta
from cjkclip.errors import FactsError
from cjkclip.text import Tokenizer
from cjkclip.text.wordpiece import WordPiece

DEFAULTS: dict[str, Any] = {
    "hidden_act": "gelu",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "type_vocab_size": 2,
    "vocab_size": 30_522,
}


def bert_rows(prefix: str) -> tuple[Row, ...]:
    """Return the rows of a BertModel under a prefix, with its pooler."""
    block, layer = "text.blocks.{i}", f"{prefix}encoder.layer.{{i}}"
    return (
        *(
            Row(f"text.{ours}.weight", f"{prefix}embeddings.{theirs}_embeddings.weight")
            for ours, theirs in (("token", "word"), ("position", "position"), ("segment", "token_type"))
        ),
        Row("text.ln_embed.{p}", f"{prefix}embeddings.LayerNorm.{{p}}"),
        *(
            Row(f"{block}.attn.{ours}.{{p}}", f"{layer}.attention.self.{theirs}.{{p}}")
            for ours, theirs in (("q", "query"), ("k", "key"), ("v", "value"))
        ),
        Row(f"{block}.attn.out.{{p}}", f"{layer}.attention.output.dense.{{p}}"),
        Row(f"{block}.ln1.{{p}}", f"{layer}.attention.output.LayerNorm.{{p}}"),
        Row(f"{block}.mlp.fc1.{{p}}", f"{layer}.intermediate.dense.{{p}}"),
        Row(f"{block}.mlp.fc2.{{p}}", f"{layer}.output.dense.{{p}}"),
        Row(f"{block}.ln2.{{p}}", f"{layer}.output.LayerNorm.{{p}}"),
        Row("text.pooler.{p}", f"{prefix}pooler.dense.{{p}}"),
    )


def read_bert(record: Mapping[str, Any], head: Head, kind: Literal["bert", "roberta"] = "bert") -> dict[str, Any]:
    """Return a BertConfig or RobertaConfig as our record. Positions count from 0 in a "bert", from 2 in a "roberta"."""
    whole = DEFAULTS | dict(record)
    if whole.get("pad_token_id", 1) != 1 and kind == "roberta":
        raise FactsError(f"config.json: pad_token_id of this RoBERTa is {whole['pad_token_id']}, expected 1")
    if whole.get("position_embedding_type", "absolute") != "absolute" or whole.get("is_decoder"):
        raise FactsError(
            "config.json: this BERT has relative positions or is a decoder, which is not supported. Expected "
            "position_embedding_type 'absolute' and is_decoder false"
        )
    return {
        "kind": kind,
        "vocab": whole["vocab_size"],
        "context": whole["max_position_embeddings"] - (Roberta.start if kind == "roberta" else 0),
        "types": whole["type_vocab_size"],
        "head": head,
        **encoder(whole),
    }


def bert_json(config: Bert) -> dict[str, Any]:
    """Return the BertConfig or RobertaConfig of our record."""
    sizes = {
        "vocab_size": config.vocab,
        "max_position_embeddings": config.context + config.start,
        "type_vocab_size": config.types,
    }
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2} if isinstance(config, Roberta) else {}
    return encoder_json(config) | sizes | ids


def wordpiece_tokenizer(checkpoint: Checkpoint, config: Model, most: int | None = None) -> Tokenizer | None:
    """Return the WordPiece tokenizer beside the weights, or None. Its context is the tower's, at most `most`."""
    if config.text is None or not any((checkpoint.folder / n).is_file() for n in ("vocab.txt", "tokenizer.json")):
        return None
    context = config.text.context if most is None else min(most, config.text.context)
    return WordPiece.from_transformers(checkpoint.folder, context=context)
