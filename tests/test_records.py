"""The one reader of records: what goes in, and what comes out or which error."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import pytest

from cjkclip import records
from cjkclip.errors import FactsError
from cjkclip.records import Limit


@dataclass(frozen=True, kw_only=True)
class Square:
    kind: ClassVar[str] = "square"
    side: Annotated[int, Limit("at least", 1)]


@dataclass(frozen=True, kw_only=True)
class Circle:
    kind: ClassVar[str] = "circle"
    radius: float


@dataclass(frozen=True, kw_only=True)
class Pen:
    width: Annotated[float, Limit("at least", 0), Limit("at most", 1)]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    shape: Square | Circle | None
    pen: Pen | None
    colour: tuple[int, int, int]
    names: tuple[Annotated[str, Limit("other than", "")], ...]
    paper: Literal["白", "黒"]
    size: Annotated[int, Limit("at least", 2)] | None
    framed: bool = False


GOOD: dict[str, Any] = {
    "shape": {"kind": "square", "side": 3},
    "pen": {"width": 0.5},
    "colour": [1, 2, 3],
    "names": [],
    "paper": "白",
    "size": None,
}


def drawing(**changes: Any) -> Drawing:
    values: dict[str, Any] = {"shape": Square(side=3), "pen": Pen(width=0.5), "colour": (1, 2, 3), "names": ()}
    return Drawing(**values | {"paper": "白", "size": None} | changes)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {}),
        ({"framed": True}, {"framed": True}),
        ({"shape": None, "pen": None}, {"shape": None, "pen": None}),
        ({"shape": {"kind": "circle", "radius": 1.5}}, {"shape": Circle(radius=1.5)}),
        ({"colour": (4, 5, 6), "names": ["家", "집"]}, {"colour": (4, 5, 6), "names": ("家", "집")}),
        ({"size": 2, "paper": "黒"}, {"size": 2, "paper": "黒"}),
    ],
    ids=str,
)
def test_plain_data_becomes_a_record(change: dict[str, Any], expected: dict[str, Any]) -> None:
    got = records.read(Drawing, GOOD | change, "drawing")
    assert got == drawing(**expected)
    assert records.problem(got) is None


def test_an_int_stays_an_int_where_a_float_is_expected() -> None:
    assert type(records.read(Pen, {"width": 1}, "pen").width) is int


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shape": {"side": 3}}, "drawing: shape.kind is None, expected one of ['circle', 'square']"),
        ({"shape": {"kind": []}}, "drawing: shape.kind is [], expected one of ['circle', 'square']"),
        ({"shape": {"kind": "square"}}, "drawing: shape has missing fields ['side']; expected ['side']"),
        ({"shape": {"kind": "square", "side": 0}}, "drawing: shape.side is 0, expected at least 1"),
        ({"shape": {"kind": "square", "side": True}}, "drawing: shape.side is True, expected int"),
        ({"shape": {"kind": "square", "side": 3.0}}, "drawing: shape.side is 3.0, expected int"),
        ({"shape": {"kind": "circle", "radius": True}}, "drawing: shape.radius is True, expected float"),
        ({"shape": "square"}, "drawing: shape.kind is None, expected one of ['circle', 'square']"),
        ({"pen": [0.5]}, "drawing: pen is [0.5], expected the fields of a record"),
        ({"pen": {"width": float("nan")}}, "drawing: pen.width is nan, expected at least 0"),
        ({"pen": {"width": 1, "ink": 2}}, "drawing: pen has unknown fields ['ink']; expected ['width']"),
        ({"pen": {"ink": 2}}, "drawing: pen has missing fields ['width'] and unknown fields ['ink']"),
        ({"colour": [1, 2]}, "drawing: colour is (1, 2), expected tuple[int, int, int]"),
        ({"colour": [1, 2, "3"]}, "drawing: colour is (1, 2, '3'), expected int in each place"),
        ({"colour": None}, "drawing: colour is None, expected tuple[int, int, int]"),
        ({"names": "家"}, "drawing: names is '家', expected tuple[str, ...]"),
        ({"names": ["家", ""]}, "drawing: names is ('家', ''), expected other than '' in each place"),
        ({"paper": "白い"}, "drawing: paper is '白い', expected one of ['白', '黒']"),
        ({"size": 1}, "drawing: size is 1, expected at least 2 or None"),
        ({"size": "2"}, "drawing: size is '2', expected int or None"),
        ({"framed": 1}, "drawing: framed is 1, expected bool"),
        ({"x": 1, "y": 2}, "drawing has unknown fields ['x', 'y']; expected ['shape', 'pen', "),
    ],
    ids=str,
)
def test_the_error_names_the_field_and_what_fits(change: dict[str, Any], says: str) -> None:
    with pytest.raises(FactsError, match="^" + re.escape(says)):
        records.read(Drawing, GOOD | change, "drawing")


def test_every_missing_field_is_named_but_those_with_a_default() -> None:
    names = "'colour', 'names', 'paper', 'pen', 'shape', 'size'"
    with pytest.raises(FactsError, match=re.escape(f"drawing has missing fields [{names}]")):
        records.read(Drawing, {}, "drawing")


def test_a_record_made_by_hand_is_checked_by_the_same_annotations() -> None:
    assert records.problem(drawing(pen=Pen(width=2.0))) is None  # a nested record checks itself
    assert records.problem(Pen(width=2.0)) == "width is 2.0, expected at most 1"
    assert records.problem(drawing(size=1)) == "size is 1, expected at least 2 or None"
