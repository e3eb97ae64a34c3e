"""Whether the machine keeps up: how late a thread wakes that only sleeps.

Real time judges a Raft only where its timers, and the judge's, fire when they should.
"""

from __future__ import annotations

import threading
import time

SLEEP = 0.01  # s
LATE = 0.1  # s. Of an election timeout of 400 ms that a heartbeat of 120 ms must not miss, too much
ALLOWED = 1  # times in a trial


class LoadMeter:
    """Measures from `start` to `stop`. `late`: by how many s it woke late, each time that this exceeded LATE."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="load meter", daemon=True)

    @property
    def busy(self) -> bool:
        """Whether the machine was too busy to judge."""
        return len(self.late) > ALLOWED

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.ident:
            self._thread.join()

    def _measure(self) -> None:
        while not self._stopped.is_set():
            due = time.monotonic() + SLEEP
            time.sleep(SLEEP)
            late = time.monotonic() - due
            if late > LATE:
                self.late.append(late)
