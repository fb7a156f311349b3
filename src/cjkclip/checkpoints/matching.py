"""Find the layout of a file's tensors, or the one to write. If none fits, find the family or prefix that would."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from cjkclip.checkpoints.families import Family, families
from cjkclip.checkpoints.formats import Checkpoint, Format
from cjkclip.checkpoints.layouts import homeless, published
from cjkclip.errors import LayoutError

TRANSFORMERS = "transformers"
MOST_NAMES = 5000  # names that are compared with every layout for an error message; no known CLIP has so many
Pair = tuple[Family, Format]


def find_format(checkpoint: Checkpoint, among: Sequence[Family]) -> Pair:
    """Return the format that has a place for the most tensors (if several do, the first), and its family.

    Raises LayoutError with the layout, family or prefix that would fit.
    """
    matching = _matching(among, checkpoint.tensors)
    complete = [pair for pair in matching if _is_described(pair[1], checkpoint)]
    if complete:
        family, form = best = _best(complete, checkpoint.tensors)
        left = homeless(form.layout, checkpoint.tensors)
        if left and (other := _other_family(checkpoint, among)) and not homeless(other[1].layout, checkpoint.tensors):
            raise LayoutError(_of_family(checkpoint, family.name, other))
        return best
    if matching:
        form = _best(matching, checkpoint.tensors)[1]
        if other := _other_family(checkpoint, among):
            raise LayoutError(_of_family(checkpoint, among[0].name, other))
        if (kind := _model_type(checkpoint.json(form.config_file or "") or {})) is not None:
            raise LayoutError(
                f"{checkpoint.source}: {form.config_file} has model_type {kind!r:.60}, but the tensors have layout "
                f"{form.layout.name!r}, of model_type {form.model_types[0]!r}. Use the config.json of these weights"
            )
        raise LayoutError(
            f"{checkpoint.source}: the tensors have layout {form.layout.name!r}, but no fitting {form.config_file} is "
            "beside them. Put it into their directory and pass that directory"
        )
    if other := _other_family(checkpoint, among):
        raise LayoutError(_of_family(checkpoint, among[0].name, other))
    raise LayoutError(_prefixed(checkpoint) or _unknown(checkpoint, among))


def common_prefix(names: Collection[str]) -> str:
    """Return the prefix that a wrapper put before every name, if all fit a layout without it; else "".

    >>> common_prefix(["weight", "bias"])
    ''
    """
    forms = _forms()
    if not names or any(form.layout.matches(names) for form in forms):
        return ""
    first, last = min(names), max(names)  # a prefix of these two is a prefix of all
    for end in [at + 1 for at, letter in enumerate(first) if letter == "."]:
        if not last.startswith(first[:end]):
            break
        bare = {name[end:] for name in names}
        if any(form.layout.matches(bare) and not homeless(form.layout, bare) for form in forms):
            return first[:end]
    return ""


def find_layout(name: str, params: Iterable[str]) -> Format:
    """Return the format of this layout that has a place for the most parameters.

    "transformers" also stands for the transformers layouts of other families and of single towers. Raises LayoutError
    if there is no layout of that name.
    """
    forms = _forms()
    candidates = [form for form in forms if form.layout.name == name]
    if not candidates:
        raise LayoutError(f"layout {name!r} does not exist. Use one of {_names(forms)}")
    if name == TRANSFORMERS:
        candidates += [form for form in forms if form.layout.name.startswith(f"{TRANSFORMERS}_")]
    params = list(params)
    return max(candidates, key=lambda form: _fit(form, params))


def complete_layouts(params: Iterable[str]) -> list[Format]:
    """Return the formats that have a place for every parameter and lack none."""
    params = list(params)
    return [form for form in _forms() if _fit(form, params) == (len(params), True)]


def _forms() -> list[Format]:
    """Return the formats of all families."""
    return [form for family in families() for form in family.formats]


def _fit(form: Format, params: Sequence[str]) -> tuple[int, bool]:
    """Return the number of parameters that have a place, and whether they give every tensor that marks the layout."""
    names = [place[0] for name in params if (place := published(form.layout, name)) is not None]
    return len(names), form.layout.matches(names)


def _matching(among: Iterable[Family], names: Collection[str]) -> list[Pair]:
    return [(each, form) for each in among for form in each.formats if form.layout.matches(names)]


def _best(pairs: Iterable[Pair], names: Collection[str]) -> Pair:
    return min(pairs, key=lambda pair: len(homeless(pair[1].layout, names)))


def _is_described(form: Format, checkpoint: Checkpoint) -> bool:
    """Whether the config beside the weights fits the form, if the form needs one."""
    if form.config_file is None:
        return True
    record = checkpoint.json(form.config_file)
    return record is not None and (not form.model_types or _model_type(record) in form.model_types)


def _model_type(record: Mapping[str, Any]) -> str | None:
    kind = record.get("model_type")
    return kind if isinstance(kind, str) else None


def _other_family(checkpoint: Checkpoint, among: Sequence[Family]) -> Pair | None:
    """Return the best format of the families that were not searched, or None."""
    others = [family for family in families() if family.name not in {each.name for each in among}]
    pairs = [pair for pair in _matching(others, checkpoint.tensors) if _is_described(pair[1], checkpoint)]
    return _best(pairs, checkpoint.tensors) if pairs else None


def _of_family(checkpoint: Checkpoint, searched: str, other: Pair) -> str:
    family, form = other
    return (
        f"{checkpoint.source}: its tensors do not fit family {searched!r}. They fit layout {form.layout.name!r} of "
        f'family {family.name!r}: load(..., family="{family.name}")'
    )


def _prefixed(checkpoint: Checkpoint) -> str | None:
    """Return the message if the names fit a layout without a common prefix, else None."""
    forms, every = _forms(), sorted(checkpoint.tensors)[:MOST_NAMES]
    middle = every[len(every) // 2] if every else ""  # a prefix of most names is a prefix of the middle one
    places: list[tuple[int, str, Format]] = []
    for form in forms:
        mark = form.layout.marks[0]
        for prefix in {name.removesuffix(mark) for name in every if name.endswith(mark)}:
            if not prefix or not middle.startswith(prefix):
                continue
            names = {name.removeprefix(prefix) for name in every if name.startswith(prefix)}
            if 2 * len(names) > len(every) and form.layout.matches(names) and not homeless(form.layout, names):
                places.append((len(names), prefix, form))
    if not places:
        return None
    _, prefix, form = max(places, key=lambda place: place[0])
    renamed = f"{{n.removeprefix({prefix!r}): t for n, t in state_dict.items() if n.startswith({prefix!r})}}"
    return (
        f"{checkpoint.source}: its tensors have the prefix {prefix!r}. Without it they fit layout "
        f"{form.layout.name!r}. Save the file without it and load that: {renamed}"
    )


def _unknown(checkpoint: Checkpoint, among: Sequence[Family]) -> str:
    forms, names = [form for family in among for form in family.formats], sorted(checkpoint.tensors)[:MOST_NAMES]
    places = [len(names) - len(homeless(form.layout, names)) for form in forms]
    most = max(places)
    nearest = f" Nearest: {forms[places.index(most)].layout.name!r}, with a place for {most} of them." if most else ""
    count = len(checkpoint.tensors)
    heading = "Known layouts" if len(among) > 1 else f"Layouts of family {among[0].name!r}"
    return (
        f"{checkpoint.source}: {count} tensors of no known layout (first: {names[:3]}). {heading}: "
        f"{', '.join(_names(forms))}.{nearest} Convert the file to one of them, or report its layout if it is published"
    )


def _names(forms: Iterable[Format]) -> list[str]:
    return sorted({form.layout.name for form in forms})
