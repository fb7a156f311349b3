"""`cjkclip models`: list the releases that load by name."""

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cjkclip.answers import BUNDLED, models_answer
from cjkclip.checkpoints.families import Release, families
from cjkclip.cli.options import Json
from cjkclip.cli.report import NO_EDGE, Report, cell


def models(*, json: Json = False) -> None:
    """List the models that load by name, with their languages and licences.

    Any directory, file or Hugging Face repository in a known layout loads too.

    Example: cjkclip models
    """
    with Report("models", as_json=json) as report:
        all_families = families()
        report.answer = models_answer(all_families)
        report.show(_Listing([release for family in all_families for release in family.releases]))


class _Listing:
    """One row per release if all rows fit the terminal; else each name on its own line, with the rest below.

    Names are never broken, so that they can be copied.
    """

    def __init__(self, releases: list[Release]) -> None:
        self._rows = [
            (
                release.name,
                "bundled" if release.name == BUNDLED else "".join(release.aliases[:1]),
                " ".join(release.languages),
                release.licence,
            )
            for release in releases
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | Text | Padding]:
        """Yield the table, or the lines."""
        table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
        for heading in ("name", "short name", "languages", "licence"):
            table.add_column(heading, no_wrap=True)
        for name, *rest in self._rows:
            table.add_row(cell(name, "bold"), *rest)
        if console.measure(table, options=options.update(width=NO_EDGE)).maximum <= options.max_width:
            yield table
            return
        for name, *rest in self._rows:
            yield Text(name, style="bold", no_wrap=True, overflow="ignore")
            yield Padding("   ".join(filter(None, rest)), (0, 0, 0, 2), expand=False)
