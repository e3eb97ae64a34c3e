"""What comes to the same in every world that executes a module, and is remembered from the first one.

That is most of what executing a module costs: `dataclasses` writes a text for each method and compiles it, and finds
out about each field; `typing` compiles each annotation that stands in quotes (as all do under `from __future__ import
annotations`). While a world is open, three names in these two modules lead here; programs see no difference.

A dataclass is remembered when it is plain: without bases, and with nothing but values of built-in types for defaults
and types, which are the same objects in every world. The key holds all that `dataclasses` looks at, so that a class
gets what it would have got; its functions are its own, with the globals of its module.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import typing
from types import FunctionType
from typing import Any, NamedTuple

__all__ = ["begin", "end"]


def begin() -> None:
    """A world is opened."""
    vars(dataclasses).update(exec=_execute, _process_class=_process)
    vars(typing)["compile"] = _compiled


def end() -> None:
    """It is closed."""
    vars(dataclasses)["_process_class"] = _process_really
    del vars(dataclasses)["exec"], vars(typing)["compile"]


_compiled = functools.lru_cache(maxsize=4096)(functools.partial(compile, dont_inherit=True))

_process_really: Any = vars(dataclasses)["_process_class"]

_NO_GLOBALS: dict[str, Any] = {"__name__": "dataclasses"}
"""Those of functions that are kept, which must not keep a world. They use none."""

_keeping = False


def _execute(source: str, globals: dict[str, Any], locals: dict[str, Any]) -> None:
    exec(_compiled(source, "<string>", "exec"), _NO_GLOBALS if _keeping else globals, locals)


class _Made(NamedTuple):
    """What becomes of a class's variables."""

    set: dict[str, Any]
    deleted: frozenset[str]


_made: dict[Any, _Made] = {}
_MOST = 1024  # classes; a process that grades may see many


def _process(cls: type, *how: Any) -> type:
    """What the decorator `dataclass` does."""
    global _keeping
    key = _key(cls, how)
    if key is None:
        processed: type = _process_really(cls, *how)
        return processed
    made = _made.get(key)
    if made is None:
        before = dict(vars(cls))
        _keeping = True
        try:
            _process_really(cls, *how)
        finally:
            _keeping = False
        after = dict(vars(cls))
        changed = {name: value for name, value in after.items() if before.get(name, _made) is not value}
        made = _Made(changed, frozenset(before).difference(after))
        if len(_made) >= _MOST:
            _made.clear()
        _made[key] = made
    else:
        for name in made.deleted:
            delattr(cls, name)
    globals = vars(sys.modules[cls.__module__])
    for name, value in made.set.items():
        if type(value) is dict:  # the fields
            value = value.copy()
        elif type(value) is FunctionType and value.__globals__ is _NO_GLOBALS:
            value = _with_globals(value, globals)
        setattr(cls, name, value)
    return cls


def _with_globals(function: FunctionType, globals: dict[str, Any]) -> FunctionType:
    copy = FunctionType(function.__code__, globals, function.__name__, function.__defaults__, function.__closure__)
    copy.__annotations__ = dict(function.__annotations__)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__qualname__ = function.__qualname__
    copy.__doc__ = function.__doc__
    return copy


_VALUES = frozenset({bool, bytes, int, str, type(None)})  # equal ones of a type are alike
_FIELD = ("init", "repr", "hash", "compare", "kw_only")
_KINDS_OF_FIELDS = ("ClassVar", "InitVar", "KW_ONLY")


def _key(cls: type, how: tuple[Any, ...]) -> object:
    """All that makes the dataclass; None when it is not plain."""
    variables = vars(cls)
    annotations = variables.get("__annotations__")
    module = sys.modules.get(cls.__module__)
    if type(annotations) is not dict or type(cls) is not type or cls.__bases__ != (object,) or module is None:
        return None
    if how[-2] or "__slots__" in variables or "__init__" in variables:  # `how` ends with slots, weakref_slot
        return None
    key: list[Any] = [cls.__module__, cls.__qualname__, vars(module).get("__file__"), how]
    for name, annotation in annotations.items():
        if type(annotation) is str:
            if any(kind in annotation for kind in _KINDS_OF_FIELDS):
                return None
        elif type(annotation) is not type or annotation.__module__ != "builtins":
            return None
        key += name, annotation
    for name, value in variables.items():
        key.append(name)
        if type(value) in _VALUES:
            key += type(value), value
        elif type(value) is dataclasses.Field:
            if not _is_plain(value):
                return None
            key += value.default_factory, value.default, type(value.default)
            key += (getattr(value, attribute) for attribute in _FIELD)
        elif name in annotations:
            return None
    return tuple(key)


def _is_plain(field: Any) -> bool:
    if field.metadata or getattr(field, "doc", None):
        return False
    if field.default is dataclasses.MISSING:
        return type(field.default_factory) is type and field.default_factory.__module__ == "builtins"
    return field.default_factory is dataclasses.MISSING and type(field.default) in _VALUES
