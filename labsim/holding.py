"""Which locks a thread has taken, and what the program calls them: read off its frames and their source.

Nothing is noted while a program runs; each acquire would have to pay for it. When a report needs to know, it looks at
the `with` statements that a frame stands in, and at the calls of `acquire` above the place where it stands. A `with`
says for certain that its thread holds the lock. A call of `acquire` does not: the lock may be one that is taken so that
another thread releases it, a gate. Locks that a program takes in another way are not found.

Only names and attributes are looked up, without running any code of the program's.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import CodeType, FrameType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, NamedTuple

__all__ = ["Name", "Taken", "attribute", "name_of", "taken"]


class Name(NamedTuple):
    """What the program calls a lock."""

    text: str  # an attribute's or a variable's name, such as "mu"
    owner: object  # whose attribute it is, or None


class Taken(NamedTuple):
    """A lock that a thread has taken."""

    lock: Any
    name: Name
    frame: FrameType
    line: int
    surely_held: bool  # taken by a `with` statement that is not over


def taken(frames: Sequence[FrameType], waits_for: object = None) -> Iterator[Taken]:
    """The locks that a thread has taken in these frames of its, the innermost first, which waits for one perhaps."""
    for frame in frames:
        source = "".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals))
        for site in _sites(frame.f_code, frame.f_lasti, source):
            locks = [_lock(expression, frame) for expression in site.expressions]
            if site.first_line:
                # In it before the last that is the lock waited for; or not in it at all.
                while locks and locks.pop() is not waits_for:
                    pass
            for lock, expression in zip(locks, site.expressions, strict=False):
                if lock is not None:
                    yield Taken(lock, _name(expression, frame), frame, site.line, site.is_with)


def name_of(lock: object, frames: Sequence[FrameType]) -> Name | None:
    """Of a lock, or of a Condition that has it: an attribute of an object at hand in the frames, or a variable."""
    for frame in frames:
        for value in frame.f_locals.values():
            for name, part in list(_variables(value).items()):
                if _unwrapped(part) is lock and not isinstance(value, type):
                    return Name(name, value)
        for variables in (frame.f_locals, frame.f_globals):
            for name, part in variables.items():
                if _unwrapped(part) is lock:
                    return Name(name, None)
    return None


def attribute(obj: object, name: str) -> Any:
    """The value of an attribute, or None, without running any code of the program's."""
    variables = _variables(obj)
    if name in variables:
        return variables[name]
    for base in type(obj).__mro__:
        if name in vars(base):
            found = vars(base)[name]
            break
    else:
        return None
    try:
        return found.__get__(obj) if isinstance(found, MemberDescriptorType) else None
    except AttributeError:
        return None


def _variables(obj: object) -> Mapping[str, Any]:
    """Its `__dict__`, unless its class has made that something else."""
    for base in type(obj).__mro__:
        found = vars(base).get("__dict__")
        if found is not None:
            is_real = isinstance(found, (GetSetDescriptorType, MemberDescriptorType))
            return found.__get__(obj) if is_real else {}
    return {}


# --- source ---------------------------------------------------------------------------------------------------------

_Position = tuple[int, int]  # line and column
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Module


class _Site(NamedTuple):
    """A statement that takes locks."""

    expressions: tuple[ast.expr, ...]
    line: int
    is_with: bool
    first_line: bool  # whether a `with` is still being entered, or perhaps being left


@lru_cache(maxsize=1024)
def _sites(code: CodeType, instruction: int, source: str) -> list[_Site]:
    """What takes locks in a function before that instruction: first the `with` statements that it stands in."""
    here = _position(code, instruction)
    function = _function(code, here, source)
    entered, acquired = [], []
    for node in _nodes_of(function) if function is not None else ():
        if isinstance(node, ast.With):
            inside = _begin(node.body[0]) <= here < _end(node.body[-1])
            if inside or _begin(node) <= here < _begin(node.body[0]):
                entered.append(_Site(tuple(i.context_expr for i in node.items), node.lineno, True, not inside))
        elif isinstance(node, ast.Call) and (of := _acquired(node)) is not None and _end(node) < here:
            acquired.append(_Site((of,), node.lineno, False, False))
    return entered + acquired[::-1]


def _acquired(call: ast.Call) -> ast.expr | None:
    return call.func.value if isinstance(call.func, ast.Attribute) and call.func.attr == "acquire" else None


def _position(code: CodeType, instruction: int) -> _Position:
    positions = list(code.co_positions())
    line, _, column, _ = positions[max(instruction, 0) // 2]
    return line or code.co_firstlineno, column or 0


@lru_cache(maxsize=64)
def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _function(code: CodeType, here: _Position, source: str) -> _Function | None:
    """The innermost function around that place, if it is the code's."""
    found: _Function | None = _parsed(source)
    for node in ast.walk(found) if found is not None else ():
        if isinstance(node, _Function) and not isinstance(node, ast.Module) and _begin(node) <= here <= _end(node):
            found = node  # the walk comes to inner ones later
    name = getattr(found, "name", "<lambda>" if isinstance(found, ast.Lambda) else "<module>")
    return found if name == code.co_name else None


def _nodes_of(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function, from its beginning to its end, without those of the functions inside it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield node
            yield from _nodes_of(node)


def _begin(node: Any) -> _Position:
    return node.lineno, node.col_offset


def _end(node: Any) -> _Position:
    return node.end_lineno, node.end_col_offset


# --- values ---------------------------------------------------------------------------------------------------------


def _lock(expression: ast.expr, frame: FrameType) -> object:
    return _unwrapped(_value(expression, frame))


def _unwrapped(value: object) -> object:
    """The lock itself; the one inside a Condition; None for anything else."""
    if hasattr(type(value), "holder") and hasattr(type(value), "forget"):
        return value
    inner = attribute(value, "_lock") if type(value).__name__ == "Condition" else None
    return _unwrapped(inner) if inner is not None else None


def _value(expression: ast.expr, frame: FrameType) -> object:
    if isinstance(expression, ast.Name):
        return frame.f_locals.get(expression.id, frame.f_globals.get(expression.id))
    if isinstance(expression, ast.Attribute):
        return attribute(_value(expression.value, frame), expression.attr)
    return None


def _name(expression: ast.expr, frame: FrameType) -> Name:
    if isinstance(expression, ast.Attribute):
        return Name(expression.attr, _value(expression.value, frame))
    return Name(ast.unparse(expression), None)
