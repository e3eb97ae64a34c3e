"""What the judge knows of a message's class: its fields' names and defaults, as a player declares them.

A message travels as bytes and leaves out what holds its zero value, so that whoever reads it needs to know which fields
there are: the paper's rules and the columns do. A player declares a class (`declare`) before the first Call that uses
it; in the judge a dataclass of the same fields stands for it (`stand_in`). It holds no method, and no line of the
submission. A player that declares nothing, or something else, leaves rules unchecked, which is named.
"""

from __future__ import annotations

import dataclasses
import functools
import keyword
import typing
from typing import Any

from labrun.isolated import frames
from labrun.text import shown

__all__ = ["UNKNOWN", "declare", "stand_in"]

_PLAIN = (bool, int, float, str)


def declare(name: frames.Class, cls: type) -> frames.Declare:
    """What a player says of a class. Of annotations that cannot be read, nothing is said."""
    try:
        hints = typing.get_type_hints(cls)
    except Exception:  # whatever the submission has written there
        hints = {}
    fields = [(*field, _nested(hints.get(field[0]))) for field in _fields(cls)]
    return frames.Declare(name, fields)


def _fields(cls: type) -> list[tuple[str, frames.Plain]]:
    if not dataclasses.is_dataclass(cls):
        return []
    fields = [(f.name, _plain(f.default)) for f in dataclasses.fields(cls) if len(f.name) <= frames.MAX_NAME]
    return fields[: frames.MAX_FIELDS]


def _plain(default: Any) -> frames.Plain:
    if type(default) not in _PLAIN:
        return None
    if isinstance(default, int):
        return default if abs(default) < 1 << 63 else None
    return None if isinstance(default, str) and len(default) > frames.MAX_NAME else typing.cast(Any, default)


def _nested(hint: Any) -> tuple[str, list[tuple[str, frames.Plain]]] | None:
    """The dataclass that a field holds, or holds a list of."""
    hints = [hint]
    while hints:
        hint = hints.pop()
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return shown(hint.__name__, frames.MAX_NAME), _fields(hint)
        hints += typing.get_args(hint)
    return None


def stand_in(declared: frames.Declare) -> type:
    """A dataclass of such fields, the same for what is declared alike."""
    fields = tuple((f, default, nested and (nested[0], tuple(nested[1]))) for f, default, nested in declared.fields)
    return _make(declared.about[1].rpartition(".")[2], fields)


@functools.lru_cache(maxsize=256)
def _make(name: str, fields: tuple[tuple[str, frames.Plain, Any], ...]) -> type:
    attributes: dict[str, tuple[str, Any, Any]] = {}
    for field, default, nested in fields:
        if field.isidentifier() and not keyword.iskeyword(field) and not field.startswith("_"):
            holds = Any if nested is None else list[_make(nested[0], tuple((*f, None) for f in nested[1]))]  # type: ignore[misc]
            attributes[field] = field, holds, dataclasses.field(default=default)
    made = dataclasses.make_dataclass("Message", attributes.values(), init=False, repr=False, eq=False)
    made.__name__ = made.__qualname__ = shown(name, 60)
    return made


UNKNOWN = _make("a class that was not declared", ())
