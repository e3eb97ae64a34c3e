"""How long a call may take: notices one that does not return, by looking at a thread's frames now and then.

    patience = Patience(10.0, is_call)     # `is_call` says of a frame whether it is that of a call to be waited for
    patience.look(frame, now)              # about once a second: the frame of a call that has taken 10 s, or None

Nothing is noted when a call begins or ends, so calls cost nothing. That it is one call, and not several like it, is
seen by its frame: a Patience keeps that from one look to the next, so no other can be taken for it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType

__all__ = ["Patience"]


class Patience:
    """Watches one thread. `seconds` are of the clock that gives `now`."""

    def __init__(self, seconds: float, is_call: Callable[[FrameType], bool]) -> None:
        self.seconds = seconds
        self._is_call = is_call
        self._call: FrameType | None = None
        self._since = 0.0

    def look(self, frame: FrameType | None, now: float) -> FrameType | None:
        """Given a thread's innermost frame, that of a call that has not returned for `seconds`, if there is one."""
        call = None
        while frame is not None:
            if self._is_call(frame):
                call = frame  # the outermost
            frame = frame.f_back
        if call is None or call is not self._call:
            self._call, self._since = call, now
            return None
        return call if now - self._since >= self.seconds else None
