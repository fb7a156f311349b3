"""Random dual encoders of transformers, written with their features."""

from pathlib import Path

import numpy as np
import torch

from support.peers import transformers

PIXELS = np.random.default_rng(5).normal(size=(3, 3, 64, 64)).astype(np.float32)
IDS = np.array([[2, 9, 30, 3, 0, 0], [2, 8, 7, 41, 5, 3], [2, 3, 0, 0, 0, 0]])
MASK = (IDS != 0).astype(np.int64)


PAD_ONE = np.array([[0, 9, 30, 2, 1, 1], [0, 8, 7, 41, 5, 2], [0, 2, 1, 1, 1, 1]])  # the padding of RoBERTa has id 1


def inputs(text: str) -> tuple[np.ndarray, np.ndarray]:
    return (IDS, MASK) if text == "bert" else (PAD_ONE, (PAD_ONE != 1).astype(np.int64))


def write(folder: Path, text: str = "bert", image: str = "clip", *, vocab: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """A random dual encoder as transformers saves it, and its features."""
    peer = transformers()
    torch.manual_seed(0)
    size = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 2, "num_hidden_layers": 2}
    names = {"bert": "BertConfig", "roberta": "RobertaConfig", "xlmr": "XLMRobertaConfig", "ernie": "ErnieConfig"}
    words = getattr(peer, names[text])(**size, vocab_size=vocab, max_position_embeddings=12)
    names = {"clip": "CLIPVisionConfig", "vit": "ViTConfig", "deit": "DeiTConfig"}
    vision = getattr(peer, names[image])(**(size | {"hidden_size": 32}), image_size=64, patch_size=16)
    config = peer.VisionTextDualEncoderConfig.from_vision_text_configs(vision, words, projection_dim=20)
    model = peer.VisionTextDualEncoderModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
        model.save_pretrained(folder)
        if text == "ernie" or image == "deit":
            return PIXELS, PIXELS
        seen = model.get_image_features(torch.tensor(PIXELS)).pooler_output
        ids, mask = map(torch.tensor, inputs(text))
        read = model.get_text_features(ids, attention_mask=mask).pooler_output
    return seen.numpy(), read.numpy()
