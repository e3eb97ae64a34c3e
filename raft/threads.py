"""Where threads are, and which locks they hold and wait for, in the words of the student's code.

    stacks = Stacks(threads)
    stacks.name(thread)      # server 2 ticker
    stacks.where(thread)     # in Raft.Kill, raft.py:90, waiting for mu of server 2, held by server 2 ticker (in ...

It reads stacks as they are when it is made, and runs no code of the solution, so it can be used on one that has gone
wrong. A lock of Python does not say who holds it. But a thread whose line lies inside `with self.mu:` does hold
`self.mu`, unless it waits on a Condition made of that lock, or has released it by hand. Locks that are taken with
`acquire()` are not seen.

A thread that has no name of its own is called by its server and its function, if an object with a number `me` is there.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple

import labrpc

__all__ = ["Place", "Stacks", "server_at"]

_WAITING = (os.path.dirname(threading.__file__), os.path.dirname(labrpc.__file__))  # in whose code threads wait
_DEEPEST = 100  # frames of a thread that are looked at, the innermost
_UNNAMED = re.compile(r"Thread-\d+( \(.*\))?|ThreadPoolExecutor-\d+_\d+|labrpc handler")


class Place(NamedTuple):
    """A line of a thread's code."""

    function: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"in {self.function}, {self.file}:{self.line}"


class Stacks:
    """The stacks of some threads, among which holders of locks are looked for."""

    def __init__(self, threads: Iterable[threading.Thread]) -> None:
        frames = sys._current_frames()
        self._frames = {t: _inwards(frames.get(t.ident or 0)) for t in threads}

    def place(self, thread: threading.Thread) -> Place | None:
        """The innermost line of the program, or of the library if it has none there; None if the thread has ended."""
        frames = self._frames[thread]
        if not frames:
            return None
        frame = next(filter(_is_of_program, frames), frames[0])
        return Place(frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno)

    def name(self, thread: threading.Thread) -> str:
        """What the program calls a thread; or its server and function, if it has the name that Python gave it."""
        if not _UNNAMED.fullmatch(thread.name):
            return thread.name
        for frame in reversed(self._frames.get(thread, [])):
            server = _server(frame.f_locals.get("self")) if _is_of_program(frame) else ""
            if server:
                return f"{server} {frame.f_code.co_name}"
        return thread.name

    def is_idle(self, thread: threading.Thread) -> bool:
        """Whether no line of the program is on its stack, as with a thread of the network that waits for work."""
        return not any(map(_is_of_program, self._frames[thread]))

    def where(self, thread: threading.Thread) -> str:
        """Where a thread is and, if it waits for a lock, which one, and which of the threads holds it."""
        at = self.place(thread)
        if at is None:
            return "at an unknown line"
        name, lock = self._waits_for(thread)
        if lock is None:
            return str(at)
        holder = self._holders.get(id(lock))
        if holder is None:
            return f"{at}, waiting for {name}, held by an unknown thread"
        if holder is thread:
            return f"{at}, waiting for {name}, which it holds itself"
        return f"{at}, waiting for {name}, held by {self.name(holder)} ({self.place(holder)})"

    def _waits_for(self, thread: threading.Thread) -> tuple[str, Any]:
        """The lock at whose `with` a thread stands: its name in the program, and the lock. ("", None) if at none."""
        for frame in self._frames[thread]:
            if not frame.f_code.co_filename.startswith(_WAITING):
                for name, at_it, _ in _withs(frame):
                    if at_it and (lock := _lock(frame, name)) is not None:
                        return _called(frame, name), lock
                break
        return "", None

    @functools.cached_property
    def _holders(self) -> dict[int, threading.Thread]:
        """By the id of a lock, the thread that holds it by `with`."""
        return {id(lock): thread for thread, frames in self._frames.items() for lock in _held(frames)}


def server_at(frame: FrameType | None) -> int | None:
    """In whose method a stack is: the number that the innermost object has as its `me`, or that Make was given as that.

    None if there is none.
    """
    while frame is not None:
        code = frame.f_code
        if "me" in code.co_varnames[: code.co_argcount] and type(number := frame.f_locals.get("me")) is int:
            return number
        for name in (*code.co_varnames[: code.co_argcount][:1], *code.co_freevars):
            me = getattr(frame.f_locals.get(name), "__dict__", {}).get("me")
            if type(me) is int:
                return me
        frame = frame.f_back
    return None


def _is_of_program(frame: FrameType) -> bool:
    """Not the standard library's, the network's, or a module's that hides its frames, as the harness's do."""
    hidden = frame.f_globals.get("__tracebackhide__")
    return not hidden and not frame.f_code.co_filename.startswith(_WAITING)


def _held(frames: list[FrameType]) -> Iterator[Any]:
    waits_on = [_plain(f.f_locals.get("self")) for f in frames if f.f_code.co_qualname == "Condition.wait"]
    for frame in frames:
        for name, _, in_body in _withs(frame):
            lock = _lock(frame, name) if in_body else None
            if lock is not None and not any(lock is other for other in waits_on):
                yield lock


def _inwards(frame: FrameType | None) -> list[FrameType]:
    """Innermost first."""
    frames: list[FrameType] = []
    while frame and len(frames) < _DEEPEST:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _withs(frame: FrameType) -> Iterator[tuple[str, bool, bool]]:
    """The `with` statements around a frame's line: the name, and whether the line is at it, or in the body."""
    line = frame.f_lineno
    for name, begins, body, ends in _withs_of(frame.f_code):
        if begins <= line <= ends:
            yield name, line < body, line >= body


@functools.lru_cache(maxsize=1024)
def _withs_of(code: CodeType) -> list[tuple[str, int, int, int]]:
    """All `with NAME:` and `with NAME.NAME:` of a function: name, its first line, that of the body, the last one."""
    found = []
    pending: list[ast.AST] = [*_body_of(code)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.With) and node.body[0].lineno > node.lineno:
            for item in node.items:
                if _is_path(item.context_expr):
                    found.append(
                        (ast.unparse(item.context_expr), node.lineno, node.body[0].lineno, node.end_lineno or 0)
                    )
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            pending += ast.iter_child_nodes(node)
    return found


def _body_of(code: CodeType) -> list[ast.stmt]:
    """The statements of a function; none if its source cannot be had."""
    for node in ast.walk(_tree(code.co_filename)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == code.co_name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first == code.co_firstlineno:
                return node.body
    return []


@functools.lru_cache(maxsize=64)
def _tree(file: str) -> ast.AST:
    try:
        with open(file, "rb") as source:
            return ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):
        return ast.Module([], [])


def _is_path(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _lock(frame: FrameType, path: str) -> Any:
    """The lock that a path such as `self.mu` means in a frame; None if it is none. Runs no property of the program."""
    value = _plain(_value(frame, path))
    return value if hasattr(type(value), "acquire") and hasattr(type(value), "release") else None


def _value(frame: FrameType, path: str) -> Any:
    name, *attributes = path.split(".")
    value = frame.f_locals.get(name, frame.f_globals.get(name))
    for attribute in attributes:
        value = getattr(value, "__dict__", {}).get(attribute)
    return value


def _called(frame: FrameType, path: str) -> str:
    """`self.mu` is called mu of server 2."""
    owner, _, attribute = path.rpartition(".")
    server = _server(_value(frame, owner)) if owner else ""
    return f"{attribute} of {server}" if server else path


def _server(owner: Any) -> str:
    me = getattr(owner, "__dict__", {}).get("me")
    return f"server {me}" if type(me) is int else ""


def _plain(lock: Any) -> Any:
    """A Condition's own lock."""
    return vars(lock)["_lock"] if isinstance(lock, threading.Condition) else lock
