"""Tokenizers as RoBERTa and XLM-R have them in tokenizer.json, for the tests of `text.fast`."""

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

TEXTS = ["a cat, 猫と犬!", "고양이  사진", "", "mañana 🐼", "cat " * 40]
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]


def roberta() -> Tokenizer:
    """A byte-level byte-pair tokenizer, trained on the texts."""
    vocab = {token: i for i, token in enumerate([*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    merges = [("c", "a"), ("ca", "t"), ("Ġ", "cat")]
    vocab |= {"".join(pair): len(vocab) + i for i, pair in enumerate(merges)}
    rust = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>"))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    rust.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    rust.add_special_tokens(SPECIALS)
    return rust


def xlm_roberta() -> Tokenizer:
    pieces = [(token, 0.0) for token in SPECIALS] + [(f"▁{w}", -2.0) for w in ("a", "cat", "")]
    pieces += [(c, -3.0 - i / 100) for i, c in enumerate(sorted(set("".join(TEXTS)) - {" "}))]
    rust = Tokenizer(models.Unigram(pieces, 3, byte_fallback=False))
    rust.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    rust.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    rust.decoder = decoders.Metaspace()
    rust.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 0), ("</s>", 2)])
    rust.add_special_tokens(SPECIALS)
    return rust


KINDS = {"roberta": roberta, "xlmr": xlm_roberta}
