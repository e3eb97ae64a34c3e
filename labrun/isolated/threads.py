"""What threads of the judge and of a player share: a pool that uses them again, and an answer to wait for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any


class Pool:
    """Runs each job at once: in an idle thread if there is one, else in a new one called `name`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._mu = threading.Lock()
        self._idle = 0
        self._threads: set[threading.Thread] = set()
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def run(self, job: Callable[[], object]) -> None:
        """Run a job, which must not raise."""
        with self._mu:
            if self._idle:
                self._idle -= 1
            else:
                thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                thread.start()
                self._threads.add(thread)
            self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            with self._mu:
                self._idle += 1

    def threads(self) -> list[threading.Thread]:
        with self._mu:
            return list(self._threads)

    def close(self) -> None:
        """Wait for the jobs under way, and end all threads. No job may be given any more."""
        with self._mu:
            threads = list(self._threads)
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join()


class Awaited:
    """An answer, and what one thread waits at for it: a lock that is held until the answer is there."""

    __slots__ = ("_lock", "answer", "expected")

    def __init__(self, *expected: type) -> None:
        self.expected = expected  # the types that it may be of
        self.answer: Any = None
        self._lock = threading.Lock()
        self._lock.acquire()

    def arrive(self, answer: Any) -> None:
        """To be called once."""
        self.answer = answer
        self._lock.release()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether the answer arrives within so many seconds. To be called again only if it did not."""
        return self._lock.acquire(timeout=-1 if seconds is None else max(0.0, seconds))
