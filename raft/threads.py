"""Where threads are, and which locks they hold and wait for, in the words of the student's code.

    stacks = Stacks(threads)
    stacks.name(thread)      # server 2 ticker
    stacks.where(thread)     # in Raft.Kill, raft.py:90, waiting for mu of server 2, held by server 2 ticker (in ...

It reads stacks as they are when it is made, and runs no code of the solution, so it can be used on one that has gone
wrong. A lock of Python does not say who holds it. But a thread whose line lies inside `with self.mu:`, or below a line
`self.mu.acquire()` of the same block, does hold `self.mu`, unless it waits on a Condition made of that lock, or has
released it: no line counts from the first `self.mu.release()` on. Locks that are taken otherwise are not seen.

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

__all__ = ["OwnLock", "Place", "Stacks", "held_at", "server_at"]

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


class OwnLock(NamedTuple):
    """A thread that waits for a lock which it holds itself: where it waits, and the line of the frame that holds it."""

    thread: str
    lock: str
    at: Place
    held_at: Place


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
        return _place(frame)

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

    def own_locks(self) -> Iterator[OwnLock]:
        """The threads that wait for themselves."""
        for thread, frames in self._frames.items():
            name, lock = self._waits_for(thread)
            if lock is None or self._holders.get(id(lock)) is not thread or not _is_plain_lock(lock):
                continue
            at, holding = next(((_place(f), f) for f in frames if _is_of_program(f)), (None, None))
            for frame in frames:
                if at and frame is not holding and any(lock is held for _, held in _held_in(frame)):
                    yield OwnLock(self.name(thread), name, at, _place(frame))
                    break

    def _waits_for(self, thread: threading.Thread) -> tuple[str, Any]:
        """The lock at whose taking a thread stands: its name in the program, and the lock. ("", None) if at none."""
        for frame in self._frames[thread]:
            if not frame.f_code.co_filename.startswith(_WAITING):
                for name, at_it, _ in _withs(frame):
                    if at_it and (lock := _lock(frame, name)) is not None:
                        return _called(frame, name), lock
                break
        return "", None

    @functools.cached_property
    def _holders(self) -> dict[int, threading.Thread]:
        """By the id of a lock, the thread that holds it."""
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


def held_at(frame: FrameType | None) -> list[str]:
    """What a thread holds that stands there, as the program calls it: the locks that its lines show to be taken."""
    frames = _inwards(frame)
    found: dict[str, None] = {}
    for each in frames:
        for name, lock in _held_in(each):
            of_python = type(lock).__module__ == "_thread" and hasattr(lock, "locked")
            if not of_python or lock.locked():  # in virtual time, to ask would take time
                found[_called(each, name)] = None
    return list(found)


def _place(frame: FrameType) -> Place:
    return Place(frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno)


def _is_plain_lock(lock: Any) -> bool:
    """Whether its owner, too, must wait for it. An RLock of any kind says who owns it."""
    return not hasattr(lock, "_is_owned")


def _is_of_program(frame: FrameType) -> bool:
    """Not the standard library's, the network's, or a module's that hides its frames, as the harness's do."""
    hidden = frame.f_globals.get("__tracebackhide__")
    return not hidden and not frame.f_code.co_filename.startswith(_WAITING)


def _held(frames: list[FrameType]) -> Iterator[Any]:
    waits_on = [_plain(f.f_locals.get("self")) for f in frames if f.f_code.co_qualname == "Condition.wait"]
    for frame in frames:
        for _, lock in _held_in(frame):
            if not any(lock is other for other in waits_on):
                yield lock


def _held_in(frame: FrameType) -> Iterator[tuple[str, Any]]:
    """The locks that a frame's line shows to be held: names and locks."""
    for name, _, in_body in _withs(frame):
        lock = _lock(frame, name) if in_body else None
        if lock is not None:
            yield name, lock


def _inwards(frame: FrameType | None) -> list[FrameType]:
    """Innermost first."""
    frames: list[FrameType] = []
    while frame and len(frames) < _DEEPEST:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _withs(frame: FrameType) -> Iterator[tuple[str, bool, bool]]:
    """The statements that take locks around a frame's line: the name, and whether it is at one, or holds it by one."""
    line = frame.f_lineno
    for name, begins, body, ends in _withs_of(frame.f_code):
        if begins <= line <= ends:
            yield name, line < body, line >= body


@functools.lru_cache(maxsize=1024)
def _withs_of(code: CodeType) -> list[tuple[str, int, int, int]]:
    """All `with NAME.NAME:` and `NAME.NAME.acquire()` of a function.

    Name, line, and the first and the last line where it is held.
    """
    found = []
    releases: list[tuple[str, int]] = []
    pending: list[tuple[ast.AST, int]] = [(node, _last_line(_body_of(code))) for node in _body_of(code)]
    while pending:
        node, block_ends = pending.pop()
        if isinstance(node, ast.With) and node.body[0].lineno > node.lineno:
            for item in node.items:
                if _is_path(item.context_expr):
                    found.append(
                        (ast.unparse(item.context_expr), node.lineno, node.body[0].lineno, node.end_lineno or 0)
                    )
        if isinstance(node, ast.Expr) and (path := _method_of(node.value, "acquire")):
            found.append((path, node.lineno, (node.end_lineno or 0) + 1, block_ends))
        if path := _method_of(node, "release"):
            releases.append((path, node.lineno))  # type: ignore[attr-defined]
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            for name, value in ast.iter_fields(node):
                block = value if isinstance(value, list) else [value]
                parts = [part for part in block if isinstance(part, ast.AST)]
                ends = _last_line(parts) if name in _BLOCKS else block_ends
                pending += [(part, ends) for part in parts]
    return [
        (path, at, body, min([ends, *(line - 1 for released, line in releases if released == path and line > at)]))
        for path, at, body, ends in found
    ]


_BLOCKS = ("body", "orelse", "finalbody", "handlers")


def _last_line(nodes: list[Any]) -> int:
    return max((getattr(node, "end_lineno", 0) or 0 for node in nodes), default=0)


def _method_of(node: ast.AST, method: str) -> str:
    """Of `self.mu.acquire()`, without arguments, self.mu; "" of anything else."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method):
        return ""
    return "" if node.args or node.keywords or not _is_path(node.func.value) else ast.unparse(node.func.value)


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
    """A Condition's own lock. (In virtual time conditions are of a class of its own.)"""
    return vars(lock)["_lock"] if type(lock).__name__ == "Condition" and "_lock" in vars(lock) else lock
