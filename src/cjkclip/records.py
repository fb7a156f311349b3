"""Frozen records from plain JSON data, checked against the annotations of their fields.

A field is a bool, int, float, str, Literal or tuple, another record, None, a union of these, or one of them with
limits. Where a field takes one of several records, the entry "kind" of the data chooses by their `kind`, a ClassVar.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, cast, get_args, get_origin

from cjkclip.errors import FactsError

_T = TypeVar("_T")
_UNIONS = (Union, UnionType)
_HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    "at least": operator.ge,
    "more than": operator.gt,
    "at most": operator.le,
    "below": operator.lt,
    "other than": operator.ne,
}


class Limit(NamedTuple):
    """A condition beyond the type, as in `Annotated[int, Limit("at least", 1)]`."""

    words: Literal["at least", "more than", "at most", "below", "other than"]
    bound: float | str


def read(kind: type[_T], data: object, name: str, path: str = "") -> _T:
    """Return the record of class `kind` that plain data describes; errors begin with `name` and the dotted `path`.

    Lists become tuples, and an int stays an int where a float is expected. Raises FactsError for a field that is
    missing, unknown or does not fit.
    """
    where = f"{name}: {path}" if path else name
    if not isinstance(data, Mapping):
        raise FactsError(f"{where} is {data!r}, expected the fields of a record")
    known = {field.name: field for field in fields(cast(Any, kind))}
    items = {k: v for k, v in cast(Mapping[str, Any], data).items() if k != "kind" or not hasattr(kind, "kind")}
    required = {n for n, field in known.items() if field.default is field.default_factory is MISSING}
    names = {"missing": sorted(required - set(items)), "unknown": sorted(set(items) - set(known))}
    if problems := [f"{word} fields {some}" for word, some in names.items() if some]:
        raise FactsError(f"{where} has {' and '.join(problems)}; expected {list(known)}")
    return kind(**{n: _value(known[n].type, item, name, f"{path}.{n}".strip(".")) for n, item in items.items()})


def problem(record: Any) -> str | None:
    """Describe the first field of a record whose value does not fit; None if all fit."""
    values = ((field, getattr(record, field.name)) for field in fields(record))
    expected = ((field.name, value, _expected(value, field.type)) for field, value in values)
    return next((f"{name} is {value!r}, expected {fit}" for name, value, fit in expected if fit), None)


def chosen(annotation: Any, data: object) -> type[Any] | None:
    """Return the record class that a field takes for `data`: its only one, or the one of that "kind"; None if none."""
    kinds: list[Any] = [each for each in _members(annotation) if is_dataclass(each)]
    return next((each for each in kinds if len(kinds) == 1 or each.kind == _tag(data)), None)


def spell(annotation: Any) -> str:
    """Return the type of a field in words, without its limits.

    >>> spell(Literal["a", "b"]), spell(Annotated[int, Limit("at least", 1)] | None)
    ("one of ['a', 'b']", 'int or None')
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"one of {list(args)}"
    if origin is tuple:
        return f"tuple[{', '.join('...' if each is Ellipsis else spell(each) for each in args)}]"
    if origin is Annotated:
        return spell(args[0])
    if origin in _UNIONS:
        return " or ".join(map(spell, args))
    return "None" if annotation is NoneType else annotation.__name__


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in _UNIONS else (annotation,)


def _tag(data: object) -> object:
    return cast(Mapping[str, Any], data).get("kind") if isinstance(data, Mapping) else None


def _value(annotation: Any, value: Any, name: str, path: str) -> Any:
    kinds = [each for each in _members(annotation) if is_dataclass(each)]
    if kinds and not (value is None and NoneType in _members(annotation)):
        if kind := chosen(annotation, value):
            return read(kind, value, name, path)
        choices = sorted(cast(Any, each).kind for each in kinds)
        raise FactsError(f"{name}: {path}.kind is {_tag(value)!r}, expected one of {choices}")
    value = tuple(cast(list[Any], value)) if isinstance(value, list) else value
    if expected := _expected(value, annotation):
        raise FactsError(f"{name}: {path} is {value!r}, expected {expected}")
    return value


def _expected(value: Any, annotation: Any) -> str | None:
    """Describe what a field takes, if `value` is not that; None if it fits. A bool does not count as a number."""
    origin, args, fits = get_origin(annotation), get_args(annotation), type(value) is annotation
    if origin is Annotated:
        limits = (f"{words} {bound!r}" for words, bound in args[1:] if not _HOLDS[words](value, bound))
        return _expected(value, args[0]) or next(limits, None)
    if origin in _UNIONS:
        answers = [_expected(value, each) for each in args]
        return None if None in answers else " or ".join(map(str, answers))
    if origin is tuple and isinstance(value, tuple):
        items = cast(tuple[Any, ...], value)
        args = args[:1] * len(items) if args[-1] is Ellipsis else args
        if any(each := list(map(_expected, items, args))):
            return f"{next(filter(None, each))} in each place"
        fits = len(items) == len(args)
    elif origin is Literal:
        fits = value in args
    elif annotation is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    return None if fits else spell(annotation)
