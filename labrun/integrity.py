"""Notices when a solution changes the harness that judges it.

A Snapshot remembers the functions, the classes with their methods, and the constants of some modules, just before a
solution is loaded. `changed` names what is another one now, and `restore` puts it back. That finds what assignments do,
by whatever way the solution came by the object; it is no defence against code that also knows of this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from raft.config import LabFailure

__all__ = ["Snapshot", "check_unchanged"]

__tracebackhide__ = True


class _Known(NamedTuple):
    owner: Any  # a module or a class
    name: str
    value: Any
    code: Any  # of a function, and the defaults of its arguments
    defaults: Any

    def is_as_before(self) -> bool:
        if vars(self.owner).get(self.name) is not self.value:
            return False
        return self.code is None or (self.value.__code__ is self.code and self.value.__defaults__ is self.defaults)


class Snapshot:
    def __init__(self, modules: Iterable[ModuleType]) -> None:
        self._known = [known for module in modules for known in _parts(module)]

    def changed(self) -> list[str]:
        """The full names of what is not as it was, such as "raft.config.Config.checkOneLeader"."""
        return [_name(known) for known in self._known if not known.is_as_before()]

    def restore(self) -> None:
        for known in self._known:
            if not known.is_as_before():
                setattr(known.owner, known.name, known.value)
                if known.code is not None:
                    known.value.__code__, known.value.__defaults__ = known.code, known.defaults


def check_unchanged(harness: Snapshot) -> None:
    """Raises LabFailure if the harness is not as it was when its solution was loaded."""
    changed = harness.changed()
    if changed:
        raise LabFailure(
            f"the solution changed {', '.join(changed[:3])}", "it is judged by the harness as it was", cause="changed"
        )


def _parts(module: ModuleType) -> Iterator[_Known]:
    for name, value in list(vars(module).items()):
        is_constant = isinstance(value, (int, float, str)) and name[0].isupper()
        if isinstance(value, FunctionType) or is_constant:
            yield _known(module, name, value)
        elif isinstance(value, type) and value.__module__ == module.__name__:
            yield _known(module, name, value)
            for attribute, what in list(vars(value).items()):
                if callable(what) or isinstance(what, (staticmethod, classmethod, property)):
                    yield _known(value, attribute, what)


def _known(owner: Any, name: str, value: Any) -> _Known:
    if isinstance(value, FunctionType):
        return _Known(owner, name, value, value.__code__, value.__defaults__)
    return _Known(owner, name, value, None, None)


def _name(known: _Known) -> str:
    owner = known.owner
    prefix = owner.__name__ if isinstance(owner, ModuleType) else f"{owner.__module__}.{owner.__qualname__}"
    return f"{prefix}.{known.name}"
