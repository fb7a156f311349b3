"""Search a gallery file, a directory of images or the bundled images: queries to ranked hits.

A query is a text (a string), or an image in any other form that `Clip.encode_image` reads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cjkclip import moji
from cjkclip.errors import CjkclipError, ImageError, InputError
from cjkclip.gallery.bundled import Bundled, bundled
from cjkclip.gallery.files import find_pictures, is_file, is_folder
from cjkclip.gallery.index import OnInput, Progress, has_words
from cjkclip.gallery.store import Gallery, Hit
from cjkclip.image import Picture

if TYPE_CHECKING:
    from cjkclip.clip import Clip

Query = Picture  # a string is a text here, never a path
OnPath = Callable[[str, CjkclipError], None]  # a path that cannot be used, and the reason
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A gallery to search, and where its images are: in `folder`, in the package, or at the names themselves."""

    gallery: Gallery
    folder: Path | None = None
    package: Bundled | None = None

    def path(self, hit: Hit) -> str:
        """Return the path of a hit's file; the bundled images have none."""
        return str(self.folder / hit.name if self.folder else Path(hit.name))


def open_place(clip: "Clip", inside: str, *, on_error: OnPath | None = None, progress: Progress | None = None) -> Place:
    """Open a gallery file, a directory of images, or a design of the bundled images by its name `inside`.

    A file or directory with the name of a design is used instead of the design. Images are encoded here;
    `progress(done, total)` is called before the first batch and after every batch. A file or directory that cannot
    be read is passed to `on_error(name, error)` and left out; without `on_error` its error is raised. Raises InputError
    if nothing can be searched, CheckpointError if the file is not a gallery.
    """
    path = Path(inside)
    if not inside:
        raise InputError(
            f"the place to search is empty: name a gallery file, a directory, or one of {list(moji.DESIGNS)}"
        )
    if is_file(inside):
        return Place(gallery=Gallery.load(path))
    if inside in moji.DESIGNS and not is_folder(inside):
        whole = bundled(clip, inside, progress=_of(len(moji.concepts()), progress))
        return Place(gallery=whole.gallery, package=whole)
    paths = find_pictures(path, on_error)
    names = [each.relative_to(path).as_posix() for each in paths]

    def failed(index: int, error: ImageError) -> None:
        assert on_error is not None
        on_error(str(paths[index]), error)

    gallery = Gallery.from_pictures(
        clip,
        paths,
        names,
        on_error=None if on_error is None else failed,
        progress=_of(len(paths), progress),
    )
    return Place(gallery=gallery, folder=path)


def _of(total: int, progress: Progress | None) -> Callable[[int], None] | None:
    """Return a callback that adds `total` to each call of `progress`, which is called first with 0."""
    if progress is None:
        return None
    progress(0, total)
    return lambda done: progress(done, total)


def ask(
    clip: "Clip", gallery: Gallery, queries: Sequence[Query], k: int = 5, *, on_error: OnInput | None = None
) -> list[list[Hit] | None]:
    """Return the `k` best hits of every query, best first; None for a query that cannot be used.

    Such a query is passed to `on_error(position, error)`; without `on_error` its TextError or ImageError is raised.
    Raises CheckpointError if the gallery is of another model.
    """
    answers: list[list[Hit] | None] = [None] * len(queries)
    texts = {i: query for i, query in enumerate(queries) if isinstance(query, str) and has_words(i, query, on_error)}
    if texts:
        for i, hits in zip(texts, gallery.search_texts(clip, list(texts.values()), k), strict=True):
            answers[i] = hits
    positions = [i for i, query in enumerate(queries) if not isinstance(query, str)]
    pictures = [query for query in queries if not isinstance(query, str)]

    def search(rows: list[int]) -> list[list[Hit]]:
        return gallery.search_pictures(clip, [pictures[i] for i in rows], k)

    results, bad = skipping_bad(search, len(pictures))
    for i, message in bad.items():
        error = ImageError(message)
        if on_error is None:
            raise error
        on_error(positions[i], error)
    for i, hits in zip(positions, results, strict=True):
        answers[i] = hits
    return answers


def skipping_bad(run: Callable[[list[int]], list[_T]], count: int) -> tuple[list[_T | None], dict[int, str]]:
    """Run over the inputs 0..count-1; leave out those that an ImageError lists, and run again over the rest.

    Return one result per input, None for each one left out, and the messages of those by index.
    """
    left, bad = list(range(count)), dict[int, str]()
    results: list[_T | None] = [None] * count
    while left:
        try:
            done = run(left)
        except ImageError as error:
            if not error.problems:
                raise
            bad.update({left[at]: message for at, message in error.problems})
            left = [index for index in left if index not in bad]
            continue
        for index, result in zip(left, done, strict=True):
            results[index] = result
        break
    return results, bad
