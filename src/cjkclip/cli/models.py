"""`cjkclip models`: the families and releases that are known by name."""

from rich.table import Table

from cjkclip.cli.options import Json
from cjkclip.cli.screen import Report, cell
from cjkclip.families import Family, Release, families

BUNDLED = "moji"


def models(*, json: Json = False) -> None:
    """List the models that load by name, with their languages and licences.

    Any folder, file or Hugging Face repository of a known layout loads too.

    Example: cjkclip models
    """
    with Report("models", as_json=json) as report:
        known = [(family, release) for family in families() for release in family.releases]
        report.answer["models"] = [_record(family, release) for family, release in known]
        table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
        for heading in ("name", "short name"):
            table.add_column(heading, no_wrap=True)
        for heading in ("languages", "licence"):
            table.add_column(heading)
        for _, release in known:
            short = "bundled" if release.name == BUNDLED else "".join(release.aliases[:1])
            table.add_row(cell(release.name, "bold"), short, " ".join(release.languages), release.licence)
        report.show(table)


def _record(family: Family, release: Release) -> dict[str, object]:
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
