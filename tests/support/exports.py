"""Child process that exports compat's models: `python exports.py "MODEL: WAY" ...` prints a JSON object.

Every model is recorded from one input and called with another: other numbers of texts and images, longer texts, padding
where there was none. The object contains, for every argument, the largest difference from the model itself, relative to
the largest value where that is above one. torch.compile could not follow the run-time type checker of conftest.py, so
the child does not install it.
"""

import io
import json
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

import cjkclip.compat.transformers as compat
from cjkclip.compat import cn_clip, japanese_clip, open_clip
from families import GOLDEN, HEADS
from support.cases import difference, row_of
from support.compat import tensor

Inputs = tuple[Tensor, ...]
FREE = torch.export.Dim.DYNAMIC


def hugging(name: str, method: str = "forward") -> tuple[Callable[[str], nn.Module], str]:
    return lambda case: getattr(compat, name).from_pretrained(GOLDEN / case), method


def chinese(method: str, **facts: int) -> tuple[Callable[[str], nn.Module], str]:
    return lambda case: cn_clip.load_from_name(str(GOLDEN / case / "model.pt"), "cpu", facts=facts)[0], method


def japanese(method: str) -> tuple[Callable[[str], nn.Module], str]:
    return lambda case: japanese_clip.load(GOLDEN / case, device="cpu")[0], method


def open_(method: str) -> tuple[Callable[[str], nn.Module], str]:
    return lambda case: open_clip.create_model_and_transforms(f"local-dir:{GOLDEN / case}", device="cpu")[0], method


# name -> golden case, inputs ("i" token ids, "m" mask, "p" pixels) in the order of the call, how to load, the method
MODELS: dict[str, tuple[str, str, tuple[Callable[[str], nn.Module], str]]] = {
    "CLIPModel": ("hf-clip-trueeos", "ipm", hugging("CLIPModel")),
    "CLIPModel, eos 2": ("hf-clip-eos2", "ipm", hugging("CLIPModel")),
    "CLIPModel, texts": ("hf-clip-eos2", "im", hugging("CLIPModel", "get_text_features")),
    "CLIPModel, images": ("hf-clip-eos2", "p", hugging("CLIPModel", "get_image_features")),
    "CLIPTextModel": ("hf-clip-trueeos", "im", hugging("CLIPTextModel")),
    "CLIPTextModelWithProjection": ("hf-clip-text-projection", "im", hugging("CLIPTextModelWithProjection")),
    "CLIPVisionModel": ("hf-clip-trueeos", "p", hugging("CLIPVisionModel")),
    "CLIPVisionModelWithProjection": ("hf-clip-vision-projection", "p", hugging("CLIPVisionModelWithProjection")),
    "ChineseCLIPModel": ("hf-chinese-clip", "ipm", hugging("ChineseCLIPModel")),
    "ChineseCLIPModel, texts": ("hf-chinese-clip", "im", hugging("ChineseCLIPModel", "get_text_features")),
    "ChineseCLIPModel, images": ("hf-chinese-clip", "p", hugging("ChineseCLIPModel", "get_image_features")),
    "ChineseCLIPTextModel": ("hf-chinese-clip", "im", hugging("ChineseCLIPTextModel")),
    "ChineseCLIPVisionModel": ("hf-chinese-clip", "p", hugging("ChineseCLIPVisionModel")),
    "VisionTextModel": ("rinna-cloob", "ipm", hugging("VisionTextModel")),
    "open_clip, texts": ("open-clip", "i", open_("encode_text")),
    "open_clip, images": ("open-clip", "p", open_("encode_image")),
    "open_clip": ("open-clip", "pi", open_("get_logits")),
    "cn_clip, texts": ("cn-clip-vit", "i", chinese("encode_text", **HEADS)),
    "cn_clip, images": ("cn-clip-vit", "p", chinese("encode_image", **HEADS)),
    "cn_clip, ResNet": ("cn-clip-rn", "pi", chinese("get_similarity", **{"text.heads": 2})),
    "japanese_clip, texts": ("rinna-clip", "im", japanese("encode_text")),
    "japanese_clip, images": ("rinna-clip", "p", japanese("encode_image")),
    "japanese_clip": ("rinna-cloob", "ip", japanese("forward")),
}


class Call(nn.Module):
    """A method of a model as a module with one output."""

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, *args: Tensor) -> Tensor:
        output: Any = getattr(self.model, self.method)(*args)
        return output if isinstance(output, Tensor) else output[0]


def prepared(name: str) -> tuple[Call, Inputs, list[dict[int, Any]]]:
    """Return a model, an input of it, and the free axes: of every input the number of items, of texts their length."""
    case, order, (load, method) = MODELS[name]
    arrays = row_of(case).expected()
    names = {"i": "input_ids", "m": "attention_mask", "p": "pixel_values"}
    inputs = tuple(tensor(arrays, names[letter]) for letter in order)
    axes = [{0: FREE} if letter == "p" else {0: FREE, 1: FREE} for letter in order]
    return Call(load(case).eval(), method), inputs, axes


def example(inputs: Inputs, rows: int) -> Inputs:
    """Return a smaller input to record from: `rows` times the first item, short texts, no padding.

    They are no views, whose guards torch.export could not check.
    """
    short = (each[:1] if each.ndim == 4 else each[:1, :6] for each in inputs)
    whole = (torch.ones_like(each) if int(each.max()) == 1 else each for each in short)  # a mask without padding
    return tuple(torch.cat([each] * rows) for each in whole)


def traced(model: nn.Module, inputs: Inputs, axes: list[dict[int, Any]]) -> Tensor:
    del axes
    return torch.jit.trace(model, example(inputs, 1), check_trace=False)(*inputs)


def exported(model: nn.Module, inputs: Inputs, axes: list[dict[int, Any]]) -> Tensor:
    return torch.export.export(model, example(inputs, 2), dynamic_shapes=(tuple(axes),)).module()(*inputs)


def compiled(model: nn.Module, inputs: Inputs, axes: list[dict[int, Any]]) -> Tensor:
    del axes
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    compiled(*example(inputs, 2))
    return compiled(*inputs)


def onnx_old(model: nn.Module, inputs: Inputs, axes: list[dict[int, Any]]) -> Tensor:
    file, names = io.BytesIO(), [f"input{number}" for number, _ in enumerate(inputs)]
    free = {name: {axis: f"{name}{axis}" for axis in each} for name, each in zip(names, axes, strict=True)}
    free["output"] = {axis: f"output{axis}" for axis in range(2)}
    named = {"input_names": names, "output_names": ["output"], "dynamic_axes": free}
    torch.onnx.export(model, example(inputs, 1), file, **named, dynamo=False)
    return run(file, inputs)


def onnx_new(model: nn.Module, inputs: Inputs, axes: list[dict[int, Any]]) -> Tensor:
    file = io.BytesIO()
    torch.onnx.export(model, example(inputs, 2), file, dynamic_shapes=(tuple(axes),), dynamo=True, verbose=False)
    return run(file, inputs)


def run(file: io.BytesIO, inputs: Inputs) -> Tensor:
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    fed = zip(session.get_inputs(), inputs, strict=True)
    return torch.from_numpy(session.run(None, {each.name: tensor.numpy() for each, tensor in fed})[0])


WAYS = {
    "trace": traced,
    "export": exported,
    "compile": compiled,
    "onnx dynamo=False": onnx_old,
    "onnx dynamo=True": onnx_new,
}


@torch.no_grad()
def main(arguments: list[str]) -> None:
    results: dict[str, float] = {}
    for argument in arguments:
        name, way = argument.split(": ")
        model, inputs, axes = prepared(name)
        want = model(*inputs)
        results[argument] = difference(WAYS[way](model, inputs, axes).numpy(), want.numpy())
    print(json.dumps(results))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # torch.onnx's notes on its rewriting
    main(sys.argv[1:])
