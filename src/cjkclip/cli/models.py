"""`cjkclip models`: the families and releases that are known by name."""

from rich.table import Table

from cjkclip.cli.options import Json
from cjkclip.cli.screen import Report, cell
from cjkclip.families import Family, Release, families


def models(*, json: Json = False) -> None:
    """List the models that can be loaded by name, with their languages and licences.

    Any folder, file or Hugging Face repository of a known layout loads too.

    Example: cjkclip models
    """
    with Report("models", as_json=json) as report:
        known = [(family, release) for family in families() for release in family.releases]
        report.answer["models"] = [_record(family, release) for family, release in known]
        table = Table(title="models that load by name", title_justify="left")
        for heading in ("name", "short names", "languages", "licence", "what it is"):
            table.add_column(heading, overflow="fold")
        for family, release in known:
            languages = " ".join(release.languages)
            short = "\n".join(release.aliases)
            table.add_row(cell(release.name, "bold"), short, languages, release.licence, cell(release.note))
        report.show(table)


def _record(family: Family, release: Release) -> dict[str, object]:
    return {
        "name": release.name,
        "aliases": list(release.aliases),
        "family": family.name,
        "languages": list(release.languages),
        "licence": release.licence,
        "bundled": release.name == "moji",
        "note": release.note,
    }
