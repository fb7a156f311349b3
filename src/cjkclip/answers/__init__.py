"""The results of every command as plain records: one schema for `--json` and for a server.

Each record is a dictionary for `json.dumps`; its keys have the order in which they are printed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from cjkclip.answers.records import (
    BenchAnswer,
    BundledHit,
    ClassifyResult,
    ComparisonRecord,
    ConvertAnswer,
    EmbedAnswer,
    Failure,
    FileHit,
    ModelRecord,
    ModelsAnswer,
    Problem,
    SearchResult,
    StageRecord,
    VerifyAnswer,
)
from cjkclip.checkpoints.families import Family, Release
from cjkclip.errors import CjkclipError, without_secrets
from cjkclip.gallery.ask import Place
from cjkclip.gallery.index import Seconds
from cjkclip.gallery.rows import Rows
from cjkclip.gallery.store import Hit
from cjkclip.speed.jobs import BenchRow, Setting, Timing
from cjkclip.verify import Comparison
from cjkclip.zeroshot import Prediction

SCHEMA = 1  # increased when a key changes its meaning or is removed
BUNDLED = "moji"  # the release that is part of the package


def envelope(
    command: str, answer: Mapping[str, object], problems: Sequence[Problem] = (), notes: Sequence[str] = ()
) -> dict[str, object]:
    """Return a complete answer: schema and command first, problems and notes last."""
    return {"schema": SCHEMA, "command": command, **answer, "problems": list(problems), "notes": list(notes)}


def problem(name: str, error: CjkclipError) -> Problem:
    """Return the record of an input that could not be used."""
    return {"input": name, "kind": type(error).__name__, "message": str(error)}


def failure(error: CjkclipError) -> dict[str, Failure]:
    """Return the answer of a command that an error ended."""
    return {"error": {"kind": type(error).__name__, "message": str(error)}}


def classify_result(picture: str, predictions: Sequence[Prediction]) -> ClassifyResult:
    """Return the result of `Clip.classify` for one image."""
    return {
        "picture": picture,
        "predictions": [{"label": one.label, "score": one.score, "cosine": one.cosine} for one in predictions],
    }


def search_result(
    place: Place, query: str, hits: Sequence[Hit], *, kind: Literal["text", "picture"], language: str
) -> SearchResult:
    """Return the hits of `gallery.ask` for one query; names of bundled images are in `language`."""
    records = [_hit(place, hit, rank, language) for rank, hit in enumerate(hits, start=1)]
    return {"query": query, "kind": kind, "language": language, "hits": records}


def _hit(place: Place, hit: Hit, rank: int, language: str) -> FileHit | BundledHit:
    if place.package is None:
        return {"rank": rank, "name": hit.name, "score": hit.score, "path": place.path(hit)}
    concept = place.package.concepts[hit.index]
    name, names = concept.names[language], dict(concept.names)
    return {"rank": rank, "name": name, "score": hit.score, "char": concept.char, "names": names}


def embed_answer(model: str, fingerprint: str, rows: Rows, pictures: int, seconds: Seconds) -> EmbedAnswer:
    """Return the answer of `embed`: the saved rows, and the time that `index` took for `pictures` images."""
    answer: EmbedAnswer = {
        "model": without_secrets(model),
        "fingerprint": fingerprint,
        "out": str(rows.path),
        "rows": len(rows),
        "width": rows.width,
        "names": rows.names,
    }
    if pictures:
        answer["pictures"], answer["seconds"] = pictures, asdict(seconds)
    return answer


def models_answer(families: Sequence[Family]) -> ModelsAnswer:
    """Return the answer of `models`: every release of these families."""
    return {"models": [_model(family, release) for family in families for release in family.releases]}


def _model(family: Family, release: Release) -> ModelRecord:
    return {
        "name": release.name,
        "aliases": list(release.aliases),
        "family": family.name,
        "layout": release.layout,
        "languages": list(release.languages),
        "licence": release.licence,
        "bundled": release.name == BUNDLED,
        "note": release.note,
        "scores": dict(release.scores),
    }


def comparison(result: Comparison) -> ComparisonRecord:
    """Return the record of a result of `verify.compare`."""
    stages: list[StageRecord] = [
        {
            "name": stage.name,
            "largest": stage.largest,
            "apart": stage.apart,
            "relative": stage.relative,
            "same": result.within(stage),
            "note": stage.note,
        }
        for stage in result.stages
    ]
    return {
        "same": result.same,
        "first": None if result.first is None else result.first.name,
        "tolerance": result.tolerance,
        "facts": list(result.facts),
        "stages": stages,
    }


def verify_answer(models: tuple[str, str], result: Comparison) -> VerifyAnswer:
    """Return the answer of `verify`."""
    return {"models": [without_secrets(model) for model in models], **comparison(result)}


def convert_answer(model: str, folder: Path, layout: str, facts: dict[str, Any]) -> ConvertAnswer:
    """Return the answer of `convert`: the files in the new directory `folder`."""
    return {
        "model": without_secrets(model),
        "folder": str(folder),
        "layout": layout,
        "facts": facts,
        "files": [{"name": path.name, "bytes": path.stat().st_size} for path in sorted(folder.iterdir())],
    }


def bench_row(row: BenchRow) -> dict[str, Any]:
    """Return one row of `bench`, with its rates."""
    return asdict(row) | {"rate": row.rate, "gflops": row.gflops}


def bench_setting(timing: Timing) -> dict[str, Any]:
    """Return one setting of `bench`."""
    rows = [bench_row(row) | {"share": timing.share(row)} for row in timing.rows]
    distances = {tower: asdict(distance) for tower, distance in timing.distances.items()}
    return {**asdict(timing.setting), "limit_gflops": timing.limit, "distances": distances, "rows": rows}


def bench_answer(
    model: str,
    machine: dict[str, Any],
    *,
    quick: bool,
    default: Setting,
    timings: Sequence[Timing],
    plain: Sequence[BenchRow],
    advice: list[str],
) -> BenchAnswer:
    """Return the answer of `bench`. `default`: the setting that `load` chooses by default."""
    return {
        "model": without_secrets(model),
        "machine": machine,
        "quick": quick,
        "default": asdict(default),
        "settings": [bench_setting(timing) for timing in timings],
        "plain": [bench_row(row) for row in plain],
        "advice": advice,
    }
