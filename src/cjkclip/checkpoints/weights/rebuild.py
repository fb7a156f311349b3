"""Rebuild named tensors from torch's pickles: define the globals that these may use, each with our replacement.

Tensors become `Strided` records; their storage is read later, once its place in the file is known. Every other global
is an `Inert`, so objects beside the weights do not matter; among the weights they raise WeightsError.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from cjkclip.checkpoints.weights.pickle import Built, Call, Inert
from cjkclip.checkpoints.weights.tensors import DTYPES, MAX_DIMS, dtype_of, short
from cjkclip.errors import WeightsError

MAX_PARTS = 200_000  # of a TorchScript module; with shared parts it could be endless
Keys = tuple[str, ...]  # of dicts inside each other
MAX_DEPTH = 3  # keys that lead to a state dict in a training file
# Beginnings of the keys of what is no model in a training file, although it contains tensors.
NOT_WEIGHTS = ("optim", "scheduler", "lr_sched", "scaler", "grad_scaler", "amp", "rng", "random", "loops", "callbacks")
PREFERRED = (
    *("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params", "student"),
    *("model_ema", "ema_state_dict", "state_dict_ema", "ema_model", "ema", "shadow_params"),
)
MAX_NAME = 1000  # characters of a part's name, and of the path to a module


@dataclass(frozen=True)
class Element:
    """An element type, by its name in `DTYPES`; replaces torch's dtypes and storage classes."""

    name: str

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return dtype_of(self.name).itemsize


@dataclass(eq=False)
class Storage:
    """`count` elements of a file from byte `start` on; the reader of the container sets `start`."""

    key: str
    element: Element
    count: int
    start: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the whole storage."""
        return self.count * self.element.size


@dataclass(frozen=True, eq=False)
class Strided:
    """A tensor that is not read yet: a view of its storage. `offset` and `stride` count elements."""

    storage: Storage
    element: Element
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Globals:
    """The globals that torch's pickles may use, and the storages of one file so far."""

    def __init__(self, *, script: bool) -> None:
        """With `script`, objects of a TorchScript archive's classes become their plain attributes."""
        self.script = script
        self.storages: dict[str, Storage] = {}

    def find(self, name: str) -> object:
        """Return the replacement of the global "module name"; an `Inert` for all but a few."""
        if name in _GLOBALS:
            return _GLOBALS[name]
        if self.script and name.startswith(("__torch__.", "__torch__ ")):
            return Call(Built)
        return Inert(short(name.replace(" ", ".", 1)).strip("'"))

    def load(self, key: object) -> Storage | Inert:
        """Return the storage of a persistent id: ("storage", type, key, device, count[, None])."""
        parts: tuple[Any, ...] = cast(tuple[Any, ...], key) if isinstance(key, tuple) else ()
        if len(parts) not in {5, 6} or parts[0] != "storage" or (len(parts) == 6 and parts[5] is not None):
            raise WeightsError("it names its storages in an unknown way. Save it again with a current torch")
        element, name, count = parts[1], parts[2], parts[4]
        if isinstance(element, Inert):  # numbers of a type that no CLIP has
            return element
        if not isinstance(element, Element) or not isinstance(name, str) or not _counts((count,)):
            raise WeightsError("it names its storages in an unknown way. Save it again with a current torch")
        storage = self.storages.setdefault(name, Storage(name, element, count))
        if (storage.element, storage.count) != (element, count):
            raise WeightsError(f"storage {short(name)} has two different descriptions")
        return storage


def tensors_of(root: object) -> dict[str, Strided]:
    """Return the tensors of a state dict, of a training file that contains one, or of a TorchScript module."""
    if isinstance(root, Built) or (isinstance(root, Inert) and _parts_of(root)):
        return _attributes(root)
    if not isinstance(root, dict):
        raise WeightsError(f"it contains {_said(root)}, not a state dict. Nothing was run. Save model.state_dict()")
    outer = cast(dict[object, object], root)
    if _is_state_dict(outer):
        return cast(dict[str, Strided], outer)
    tensors = _chosen(list(_inside(outer)))
    if tensors is not None:
        return tensors
    good = {name for name, value in outer.items() if isinstance(name, str) and isinstance(value, Strided)}
    name = next(name for name in outer if name not in good)
    keys = ", ".join(_said(key) for key in list(outer)[:8])
    raise WeightsError(
        f"entry {_said(name)} is {_said(outer[name])}, not a tensor with a name. Expected a state dict, or a dict with "
        f"one; this file's first keys: {keys}. Nothing was run. Save model.state_dict()"
    )


def _said(value: object) -> str:
    return f"an object of {value.name}" if isinstance(value, Inert) else short(value)


def _is_state_dict(value: object) -> bool:
    """Whether this is a dict of named tensors and nothing else; an empty one counts."""
    if not isinstance(value, dict):
        return False
    entries = cast(dict[object, object], value).items()
    return all(isinstance(name, str) and isinstance(tensor, Strided) for name, tensor in entries)


def _inside(outer: dict[object, object], path: Keys = ()) -> Iterator[tuple[Keys, dict[str, Strided]]]:
    """Yield the state dicts and whole modules in a dict and in its dicts, with the keys that lead there."""
    for key, value in outer.items():
        if not isinstance(key, str) or key.startswith(NOT_WEIGHTS):
            continue
        here = (*path, key)
        if _is_state_dict(value):
            yield here, cast(dict[str, Strided], value)
        elif isinstance(value, Inert) and _parts_of(value):
            yield here, _attributes(value)
        elif isinstance(value, dict) and len(here) < MAX_DEPTH:
            yield from _inside(cast(dict[object, object], value), here)


def _chosen(places: list[tuple[Keys, dict[str, Strided]]]) -> dict[str, Strided] | None:
    """Return the state dict among those of a training file, or None. Raises WeightsError if several could be meant.

    A dict with less than a tenth of the tensors of the largest is not the model. Among the others, the first key of
    `PREFERRED` decides: the trained weights come before their moving average.
    """
    most = max((len(tensors) for _, tensors in places), default=0)
    large = {path: tensors for path, tensors in places if tensors and 10 * len(tensors) >= most}
    if len(large) < 2:
        return next(iter(large.values()), None)
    for key in PREFERRED:
        match = [path for path in large if key in (path[0], path[-1])]
        if len(match) == 1:
            return large[match[0]]
    keys = "".join(f"[{part!r}]" for part in next(iter(large)))
    raise WeightsError(
        f"it contains several state dicts: {', '.join(map('.'.join, large))}. Save the one to load alone: "
        f"torch.save(torch.load(file, weights_only=False){keys}, 'new.pt')"
    )


def _parts_of(value: Built | Inert) -> dict[object, object]:
    """Return the named parts of a module: its attributes, or those that a pickled torch module keeps in three dicts."""
    state: object = value.state
    parts = cast(dict[object, object], state) if isinstance(state, dict) else {}
    if isinstance(value, Built):
        return parts
    groups = [parts.get(name) for name in ("_parameters", "_buffers", "_modules")]
    if not all(isinstance(group, dict) for group in groups):
        return {}
    return {name: part for group in groups for name, part in cast(dict[object, object], group).items()}


def _attributes(root: Built | Inert) -> dict[str, Strided]:
    """Return the tensors of a module and its submodules, named by their path, in the order of the file."""
    tensors: dict[str, Strided] = {}
    stack: list[tuple[str, object]] = [("", root)]
    count = 0
    while stack:
        path, value = stack.pop()
        if isinstance(value, Strided):
            if path in tensors:
                raise WeightsError(f"two tensors have the name {short(path)}")
            tensors[path] = value
        elif isinstance(value, Built | Inert):
            parts = _parts_of(value)
            count += len(parts)
            if count > MAX_PARTS or len(path) > MAX_NAME:
                raise WeightsError(f"its module has more than {MAX_PARTS} parts or too long names, more than any CLIP")
            stack.extend((_join(path, name), part) for name, part in reversed(parts.items()))
    return tensors


def _join(path: str, name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise WeightsError(f"a part of its module has the name {short(name)}, expected up to {MAX_NAME} characters")
    return f"{path}.{name}" if path else name


def _counts(values: object, limit: int = MAX_DIMS) -> bool:
    """Whether this is a short tuple of integers from 0 to 2**63 - 1."""
    if not isinstance(values, tuple) or len(cast(tuple[Any, ...], values)) > limit:
        return False
    return all(type(v) is int and 0 <= v < 1 << 63 for v in cast(tuple[Any, ...], values))


def _typed(storage: object, offset: object, shape: object, stride: object, *rest: object) -> Strided | Inert:
    """Return a tensor of its storage's type. `rest`: requires_grad, hooks, and flags that must be unset."""
    element = storage.element if isinstance(storage, Storage) else storage
    return _tensor(storage, (offset, shape, stride), element, rest[2:])


def _untyped(storage: object, offset: object, shape: object, stride: object, *rest: object) -> Strided | Inert:
    """Return a tensor of a type without a storage class: `rest` has the type before the flags."""
    return _tensor(storage, (offset, shape, stride), rest[2] if len(rest) > 2 else None, rest[3:])


def _tensor(storage: object, place: tuple[object, ...], element: object, flags: tuple[object, ...]) -> Strided | Inert:
    offset, shape, stride = place
    for part in (storage, element):
        if isinstance(part, Inert):
            return Inert(f"{part.name} (a tensor of another element type)")
    if not isinstance(storage, Storage) or not isinstance(element, Element):
        raise WeightsError("one of its tensors has no storage or no element type")
    if any(flags):  # conjugate or negative views: the stored values are not the tensor's
        raise WeightsError(
            "one of its tensors is stored negated or conjugated. Save tensor.resolve_neg().resolve_conj()"
        )
    if not _counts((offset,)) or not _counts(shape) or not _counts(stride):
        raise WeightsError("one of its tensors has impossible sizes (negative, not integers, or too many dimensions)")
    sizes, steps = cast(tuple[int, ...], shape), cast(tuple[int, ...], stride)
    if len(sizes) != len(steps):
        raise WeightsError(f"one of its tensors has shape {sizes} but {len(steps)} strides")
    return Strided(storage, element, cast(int, offset), sizes, steps)


def _parameter(tensor: object, *_: object) -> Strided | Inert:
    if not isinstance(tensor, Strided | Inert):
        raise WeightsError(f"one of its parameters is {short(tensor)}, not a tensor")
    return tensor


def _first(value: object = (), *_: object) -> object:
    return value


STORAGES = {  # torch's names
    "F64": "DoubleStorage",
    "F32": "FloatStorage",
    "F16": "HalfStorage",
    "BF16": "BFloat16Storage",
    "I64": "LongStorage",
    "I32": "IntStorage",
    "I16": "ShortStorage",
    "I8": "CharStorage",
    "U8": "ByteStorage",
    "BOOL": "BoolStorage",
}
_GLOBALS: dict[str, object] = {
    "collections OrderedDict": Call(lambda: {}),
    "collections defaultdict": Call(lambda *_: {}),
    "torch Size": Call(_first),
    "torch device": Call(_first),
    "torch._utils _rebuild_tensor": Call(_typed),
    "torch._utils _rebuild_tensor_v2": Call(_typed),
    "torch._utils _rebuild_tensor_v3": Call(_untyped),
    "torch._utils _rebuild_parameter": Call(_parameter),
    "torch.storage UntypedStorage": Element("U8"),
    "torch UntypedStorage": Element("U8"),
    **{f"torch {storage}": Element(name) for name, storage in STORAGES.items()},
    **{f"torch {dtype}": Element(name) for name, dtype in DTYPES.items()},
    **{f"torch.jit._pickle build_{kind}list": Call(_first) for kind in ("int", "double", "bool", "tensor")},
    "torch.jit._pickle restore_type_tag": Call(_first),
}
