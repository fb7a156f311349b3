"""The keys and types of all answers. `SCHEMA` is increased when a key changes its meaning or is removed."""

from typing import Any, Literal, NotRequired, TypedDict


class Problem(TypedDict):
    """An input that could not be used."""

    input: str
    kind: str
    message: str


class Failure(TypedDict):
    """The error that ended a command."""

    kind: str
    message: str


class LabelScore(TypedDict):
    """A label of `classify`, its probability among the labels, and its cosine similarity to the image."""

    label: str
    score: float
    cosine: float


class ClassifyResult(TypedDict):
    """Every label of one image, best first."""

    picture: str
    predictions: list[LabelScore]


class ClassifyAnswer(TypedDict):
    """The answer of `classify`."""

    model: str
    labels: list[str]
    language: str | None
    results: list[ClassifyResult]


class FileHit(TypedDict):
    """One hit in a directory or a gallery file."""

    rank: int
    name: str
    score: float
    path: str


class BundledHit(TypedDict):
    """One hit among the bundled images, which have a name in each language."""

    rank: int
    name: str
    score: float
    char: str
    names: dict[str, str]


class SearchResult(TypedDict):
    """The hits of one query, best first. `language`: that of the printed names."""

    query: str
    kind: Literal["text", "picture"]
    language: str
    hits: list[FileHit | BundledHit]


SearchAnswer = TypedDict(  # the answer of `search`; "in" is a keyword, so it cannot be a class
    "SearchAnswer", {"model": str, "in": str, "results": list[SearchResult], "sheet": NotRequired[str]}
)


class EmbedAnswer(TypedDict):
    """The answer of `embed`. `pictures` and `seconds` are present if the inputs contain images."""

    model: str
    fingerprint: str
    out: str
    rows: int
    width: int
    names: list[str]
    pictures: NotRequired[int]
    seconds: NotRequired[dict[str, float]]


class ModelRecord(TypedDict):
    """A release."""

    name: str
    aliases: list[str]
    family: str
    layout: str
    languages: list[str]
    licence: str
    bundled: bool
    note: str
    scores: dict[str, float]


class ModelsAnswer(TypedDict):
    """The answer of `models`."""

    models: list[ModelRecord]


class StageRecord(TypedDict):
    """The difference between two models at one stage."""

    name: str
    largest: float
    apart: float | None
    relative: float | None
    same: bool
    note: str


class ComparisonRecord(TypedDict):
    """A comparison of two models by stages. `first`: the first stage that differs."""

    same: bool
    first: str | None
    tolerance: float
    facts: list[str]
    stages: list[StageRecord]


class VerifyAnswer(ComparisonRecord):
    """The answer of `verify`; `models` is printed first."""

    models: list[str]


class FileRecord(TypedDict):
    """A file that `convert` wrote."""

    name: str
    bytes: int


class ConvertAnswer(TypedDict):
    """The answer of `convert`. `facts`: the config values that the layout does not store."""

    model: str
    folder: str
    layout: str
    facts: dict[str, Any]
    files: list[FileRecord]
    verified: NotRequired[ComparisonRecord]


class LossRecord(TypedDict):
    """The loss of one step of `train`."""

    step: int
    loss: float


class TrainAnswer(TypedDict):
    """The answer of `train`."""

    model: str
    out: str
    fingerprint: str
    losses: list[LossRecord]


class Check(TypedDict):
    """One check of `doctor`. Status "note": it works, but a value is unusual or could be better."""

    name: str
    status: Literal["ok", "note", "fail"]
    found: str


class DoctorAnswer(TypedDict):
    """The answer of `doctor`. `well`: whether all checks passed."""

    model: str
    well: bool
    checks: list[Check]


class BenchAnswer(TypedDict):
    """The answer of `bench`. `plain`: the rows that are measured without an engine."""

    model: str
    machine: dict[str, Any]
    quick: bool
    default: dict[str, Any]
    settings: list[dict[str, Any]]
    plain: list[dict[str, Any]]
    advice: list[str]
