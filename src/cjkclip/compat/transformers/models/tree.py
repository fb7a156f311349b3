"""A tower under its published names: a tree of modules with the tower's own parameters at transformers' names.

`Branch` is one name of that tree. Its content is shared with the tower, not copied: training, freezing,
`load_state_dict`, hooks and replaced modules all reach the arithmetic.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from cjkclip.checkpoints import layouts
from cjkclip.checkpoints.layouts import Layout, Row
from cjkclip.errors import InputError

Home = tuple[nn.Module, str]  # the tower's module that uses a parameter or module, and its name there
_M = TypeVar("_M", bound="Branch")


class Branch(nn.Module):
    """One published name. `part` is the tower's module with the same parameters, or None; a call runs it."""

    part: nn.Module | None
    homes: dict[str, Home]

    def __init__(self, part: nn.Module | None = None) -> None:
        super().__init__()
        self._attach(part)

    def _attach(self, part: nn.Module | None) -> None:
        homes: dict[str, Home] = {}
        self.__dict__.update(part=part, homes=homes)  # not registered, because their parameters are in the tree already

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the tower's own module. Raises InputError for a name without one."""
        if self.part is None:
            raise InputError("this name only groups modules, so nothing is computed here: call the whole model")
        return self.part(*args, **kwargs)

    def register_forward_hook(self, *args: Any, **kwargs: Any) -> Any:
        """Register a hook. Raises InputError if it would never be called."""
        self._computes()
        return super().register_forward_hook(*args, **kwargs)

    def register_forward_pre_hook(self, *args: Any, **kwargs: Any) -> Any:
        """Register a hook. Raises InputError if it would never be called."""
        self._computes()
        return super().register_forward_pre_hook(*args, **kwargs)

    def _computes(self) -> None:
        if self.part is None and type(self).forward is Branch.forward:
            raise InputError(
                "nothing is computed under this name, so the hook would never be called: register it on a layer, "
                "such as model.text_model.encoder.layers[0] of a CLIPModel"
            )

    def __setattr__(self, name: str, value: Any) -> None:
        """Store a module or parameter here, and in the tower's module that uses it."""
        super().__setattr__(name, value)
        if name in self.__dict__.get("homes", ()):
            setattr(*self.homes[name], value)

    def train(self: _M, mode: bool = True) -> _M:
        """Set the mode, also of the tower's modules without a published name: its dropouts."""
        super().train(mode)
        if self.part is not None:
            for module in self.part.modules():
                module.training = mode
        return self

    def _apply(self: _M, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _M:
        """Apply `fn` as torch does, then give the tower the parameters, which torch may have replaced."""
        super()._apply(fn, recurse)
        for name, home in self.homes.items():
            setattr(*home, getattr(self, name))
        return self


def plant(root: Branch, tower: nn.Module, part: str, rows: Iterable[Row]) -> None:
    """Build the published names of a tower ("vision" or "text") under `root`.

    Afterwards the tower calls its blocks through the tree, so that hooks on published names run.
    """
    layout = Layout(name=part, rows=tuple(rows), marks=(), harmless=())
    names: dict[str, str] = {}
    for name, _ in tower.named_parameters():
        home = layouts.published(layout, f"{part}.{name}")
        assert home is not None
        names[home[0]] = name
    modules: dict[str, nn.Module] = dict(tower.named_modules())  # pyright: ignore[reportUnknownArgumentType]
    twins = _twins(names, modules)
    tree: dict[str, nn.Module] = {"": root}
    root.__dict__["part"] = tower
    for published, name in names.items():
        owner, _, last = name.rpartition(".")
        trail = published.split(".")
        leaf = trail[-1] == last and not list(modules[owner].children())  # a layer, which is registered as a whole
        trail = trail[:-1] if leaf else trail
        for depth in range(1, len(trail)):
            path, above = ".".join(trail[:depth]), ".".join(trail[: depth - 1])
            if path not in tree:
                twin = twins.get(path)
                group = nn.ModuleList() if trail[depth].isdigit() else Branch(None if twin is None else modules[twin])
                tree[path] = group
                _put(tree[above], trail[depth - 1], group, None if twin is None else _home(twin, modules))
        thing = modules[owner] if leaf else tower.get_parameter(name)
        _put(tree[".".join(trail[:-1])], trail[-1], thing, _home(owner if leaf else name, modules))


def _home(name: str, modules: Mapping[str, nn.Module]) -> Home:
    owner, _, attribute = name.rpartition(".")
    return modules[owner], attribute


def _put(branch: nn.Module, name: str, thing: Any, home: Home | None) -> None:
    """Register a module or parameter in tree and tower. Items of a list need no home: the tower uses the list."""
    if isinstance(thing, nn.Parameter):
        branch.register_parameter(name, thing)
    else:
        branch.add_module(name, thing)
    if home is not None and isinstance(branch, Branch):
        branch.homes[name] = home
        setattr(*home, thing)


def _twins(names: Mapping[str, str], modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """Map the paths of published groups to the tower's modules with exactly the same parameters."""
    paths = {published[:at] for published in names for at, letter in enumerate(published) if letter == "."}
    groups: dict[tuple[frozenset[str], bool], str] = {}
    for path in sorted(paths, key=len):  # if groups have equal content, the innermost is used
        inside = {
            published[len(path) + 1 :]: name for published, name in names.items() if published.startswith(path + ".")
        }
        groups[frozenset(inside.values()), all(rest[0].isdigit() for rest in inside)] = path
    twins: dict[str, str] = {}
    for path, module in modules.items():
        members = frozenset(name for name in names.values() if name.startswith(path + "."))
        group = groups.get((members, isinstance(module, nn.ModuleList)))
        if list(module.children()) and group is not None:
            twins[group] = path
    return twins
