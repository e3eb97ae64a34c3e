"""Notices when a solution changes the harness that judges it.

A Harness remembers the functions, the classes with their methods, and the constants of some modules, just before a
solution is loaded. `changed` names what is another one now, and `restore` puts it back. That finds what assignments do,
by whatever way the solution came by the object; it is no defence against code that also knows of this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

__all__ = ["GUARDED", "Harness"]

GUARDED = ("labgob", "labrpc", "raft.api", "raft.config", "raft.persister")
"""The modules that a solution shares with the harness."""


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


class Harness:
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


def _parts(module: ModuleType) -> Iterator[_Known]:
    for name, value in list(vars(module).items()):
        if isinstance(value, FunctionType) or name.isupper():
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
