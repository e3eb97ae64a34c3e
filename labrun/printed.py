"""What a solution prints while its trial runs in this process: forwarded as it comes, and told line by line.

    with Printed(journal, threading.get_ident) as printed:
        ...                                 # each line on sys.stdout and sys.stderr goes to journal.printed, too
        show = printed.renewed_after(show)  # what sets the two anew, as pytest does to write to the terminal

A line's server is the one in whose method it was printed (raft.threads.server_at). What is printed with no line end yet
is told at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from labrun.text import MAX_TEXT, shown
from raft.config import Observer
from raft.threads import server_at

__all__ = ["Printed"]

STREAMS = ("stdout", "stderr")


class Printed:
    """`get_ident` tells threads apart: in a world, it is the world's."""

    def __init__(self, observer: Observer, get_ident: Callable[[], int]) -> None:
        self._observer = observer
        self._get_ident = get_ident
        self._streams = {name: _Stream(self) for name in STREAMS}
        self._begun: dict[int, str] = {}  # by thread: a line that has not ended yet

    def __enter__(self) -> Self:
        self._set()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        for name, stream in self._streams.items():
            if getattr(sys, name) is stream:
                setattr(sys, name, stream.target)
        for line in self._begun.values():
            self._observer.printed(None, shown(line))
        self._begun.clear()

    def renewed_after(self, function: Callable[[str], None]) -> Callable[[str], None]:
        def renewing(text: str) -> None:
            function(text)
            self._set()

        return renewing

    def _set(self) -> None:
        for name, stream in self._streams.items():
            if getattr(sys, name) is not stream:
                stream.target = getattr(sys, name)
                setattr(sys, name, stream)

    def tell(self, text: str) -> None:
        """Take what a thread writes."""
        thread = self._get_ident()
        *lines, rest = (self._begun.pop(thread, "") + text).split("\n")
        if rest:
            self._begun[thread] = rest[: MAX_TEXT + 1]
        if lines:
            server = server_at(sys._getframe(2))
            for line in lines:
                self._observer.printed(server, shown(line))


class _Stream:
    """In place of a file that people print to."""

    def __init__(self, printed: Printed) -> None:
        self.target: Any = None
        self._printed = printed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def write(self, text: str) -> int:
        if isinstance(text, str):
            self._printed.tell(text)
        written: int = self.target.write(text)
        return written
