"""Interpret pickles: build plain data, and call only functions that the caller provides.

Python's own unpickler imports and calls everything that a file names. This one runs the opcodes (split by the
standard library's pickletools, which runs nothing) on its own stack. `find` looks up a global; only a `Call` that
`find` returned is ever called. Every other global, and what a file builds of it, is an `Inert`: a name, and the state
that the file gives it. So the settings and logs that training programs put beside the weights do not matter.
Extension and buffer opcodes raise WeightsError. So do files beyond the limits below, which no checkpoint reaches and
which stop a hostile file from using up memory or time.
"""

import io
import pickletools
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from cjkclip.checkpoints.weights.tensors import short
from cjkclip.errors import WeightsError

MAX_BYTES = 64 << 20
MAX_STEPS = 1_000_000  # a checkpoint needs about 40 for each tensor
MAX_INT_BITS = 128  # torch's magic number has 77
_QUIET = threading.RLock()  # two threads that silence warnings at the same time could leave them off


@dataclass(frozen=True, eq=False)
class Call:
    """One of our functions, which a pickle may call by a name that `find` knows."""

    function: Callable[..., Any]


@dataclass(eq=False)
class Built:
    """An object of an unknown class: only its state."""

    state: Any = None


@dataclass(eq=False)
class Inert:
    """A stand-in for a global that is never imported, for an object made of it, or for a key of another type."""

    name: str
    state: Any = None


class Machine:
    """Reads pickles in sequence; the limits apply to all of them together."""

    def __init__(self, find: Callable[[str], Any], load: Callable[[Any], Any]) -> None:
        """`find` maps "module name" to a value or a `Call`, `load` a persistent id to its object."""
        self.find, self.load = find, load
        self.steps = 0

    def run(self, stream: io.BytesIO) -> Any:
        """Return the object of the next pickle in `stream`, and leave `stream` at its end. Raises WeightsError."""
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        try:
            with _QUIET, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pickletools decodes names with a codec that warns about unusual ones
                self.steps_of(stream)
        except ValueError as error:
            raise WeightsError(f"its pickle is damaged: {str(error)[:200]}. Download the file again") from error
        if len(self.stack) != 1 or self.below:
            raise WeightsError("its pickle is damaged: it does not end with exactly one object. Download it again")
        return self.stack.pop()

    def steps_of(self, stream: io.BytesIO) -> None:
        """Run the opcodes of the next pickle."""
        for op, arg, _ in pickletools.genops(stream):
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise WeightsError(f"its pickle has more than {MAX_STEPS} steps, more than any checkpoint")
            if op.name != "STOP":
                self.step(op.name, arg)

    def step(self, name: str, arg: Any) -> None:
        """Run one opcode."""
        if name in _VALUES:
            if isinstance(arg, int) and arg.bit_length() > MAX_INT_BITS:
                raise WeightsError(
                    f"its pickle contains a number of {arg.bit_length()} bits, expected at most {MAX_INT_BITS}"
                )
            self.push(arg)
        elif name in _CONSTANTS:
            self.push(_CONSTANTS[name]())
        elif name in _STEPS:
            _STEPS[name](self, arg)
        else:
            raise WeightsError(f"its pickle uses the opcode {name}, which no checkpoint needs. Nothing was run")

    def push(self, value: Any) -> None:
        """Put `value` on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Remove and return the top of the stack."""
        if not self.stack:
            _damaged("it takes a value from an empty stack")
        return self.stack.pop()

    def top(self, kind: type[Any]) -> Any:
        """Return the top of the stack, which must be of `kind`; what is added to an `Inert` is dropped."""
        if self.stack and isinstance(self.stack[-1], Inert) and kind is not object:
            return kind()
        if not self.stack or not isinstance(self.stack[-1], kind):
            _damaged(f"it adds to a value that is no {kind.__name__}")
        return self.stack[-1]

    def items(self) -> list[Any]:
        """Remove and return everything above the last mark."""
        if not self.below:
            _damaged("a mark is missing")
        items, self.stack = self.stack, self.below.pop()
        return items

    def mark(self, _: Any) -> None:
        """Open a new frame of the stack."""
        self.below.append(self.stack)
        self.stack = []

    def tuple_of(self, count: int) -> None:
        """Replace the top `count` entries by a tuple."""
        self.push(tuple(reversed([self.pop() for _ in range(count)])))

    def set_items(self, pairs: list[Any]) -> None:
        """Put key, value, key, value, ... in the dict on top."""
        target = self.top(dict)
        if len(pairs) % 2:
            _damaged("a key has no value")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            target[_key(key)] = value

    def dict_of(self, pairs: list[Any]) -> None:
        """Push a new dict of these pairs."""
        self.push({})
        self.set_items(pairs)

    def get(self, index: int) -> None:
        """Push the value that was stored under `index`."""
        if index not in self.memo:
            _damaged(f"it reads entry {index}, which it never stored")
        self.push(self.memo[index])

    def put(self, index: int) -> None:
        """Store the top of the stack under `index`."""
        self.memo[index] = self.top(object)

    def stack_global(self, _: Any) -> None:
        """Look up a global whose name is on the stack."""
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            _damaged("the name of a global is not a string")
        self.push(self.find(f"{module} {name}"))

    def call(self, _: Any) -> None:
        """Call one of our own functions on the tuple above it. A call of an `Inert` is another one."""
        args, function = self.pop(), self.pop()
        if isinstance(function, Inert):
            self.push(Inert(function.name))
            return
        if not isinstance(function, Call) or not isinstance(args, tuple):
            raise WeightsError(f"its pickle calls {short(function)}, which may be unsafe. Nothing was run")
        try:
            self.push(function.function(*cast(tuple[Any, ...], args)))
        except TypeError as error:
            raise WeightsError(f"its pickle builds an object from the wrong parts: {str(error)[:200]}") from error

    def build(self, _: Any) -> None:
        """Set the state of a `Built` or an `Inert`; ignore that of a dict (torch's `_metadata`)."""
        state, target = self.pop(), self.top(object)
        if isinstance(target, Built | Inert) and target.state is None:
            target.state = state
        elif not isinstance(target, dict) or not isinstance(state, dict):
            kind = short(cast(object, target))
            raise WeightsError(f"its pickle sets the state of {kind}, which may be unsafe. Nothing was run")


def _damaged(why: str) -> NoReturn:
    raise WeightsError(f"its pickle is damaged: {why}. Download the file again")


def _key(key: Any) -> Any:
    # hashing a tuple could take forever, and huge numbers can be chosen so that all have the same hash
    if not isinstance(key, str | bytes | bool | float | None) and not (isinstance(key, int) and key.bit_length() <= 64):
        return Inert(f"the key {key.name if isinstance(key, Inert) else short(key)}")
    return key


_VALUES = frozenset(
    [
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    ]
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: Inert("a set"),
}
_STEPS: dict[str, Callable[[Machine, Any], object]] = {
    "PROTO": lambda _, version: None if version <= 5 else _damaged(f"it has protocol {version}, expected at most 5"),
    "FRAME": lambda _machine, _size: None,
    "MARK": Machine.mark,
    "POP": lambda m, _: m.pop() if m.stack else m.items(),
    "POP_MARK": lambda m, _: m.items(),
    "DUP": lambda m, _: m.push(m.top(object)),
    "TUPLE": lambda m, _: m.push(tuple(m.items())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "LIST": lambda m, _: m.push(m.items()),
    "DICT": lambda m, _: m.dict_of(m.items()),
    "APPEND": lambda m, _: (value := m.pop(), m.top(list).append(value)),
    "APPENDS": lambda m, _: (values := m.items(), m.top(list).extend(values)),
    "SETITEM": lambda m, _: (value := m.pop(), key := m.pop(), m.set_items([key, value])),
    "SETITEMS": lambda m, _: m.set_items(m.items()),
    "PUT": lambda m, index: m.put(index),
    "BINPUT": lambda m, index: m.put(index),
    "LONG_BINPUT": lambda m, index: m.put(index),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "GET": lambda m, index: m.get(index),
    "BINGET": lambda m, index: m.get(index),
    "LONG_BINGET": lambda m, index: m.get(index),
    "GLOBAL": lambda m, name: m.push(m.find(name)),
    "STACK_GLOBAL": Machine.stack_global,
    "ADDITEMS": lambda m, _: (m.items(), m.top(list)),
    "FROZENSET": lambda m, _: (m.items(), m.push(Inert("a set"))),
    "INST": lambda m, name: (m.items(), m.push(Inert(name.replace(" ", ".", 1)))),
    "OBJ": lambda m, _: m.push(Inert(short(m.items()[:1]))),
    "NEWOBJ_EX": lambda m, _: (m.pop(), Machine.call(m, _)),
    "REDUCE": Machine.call,
    "NEWOBJ": Machine.call,
    "BUILD": Machine.build,
    "BINPERSID": lambda m, _: m.push(m.load(m.pop())),
}
