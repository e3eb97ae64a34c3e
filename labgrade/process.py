"""A process that grades a submission: its output, which is cut, what it uses, and its end.

It gets a session of its own, no input, and of the environment what pytest and coverage tools do not take for theirs.
Whatever it starts, and that has not left the session, ends with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from labrun import HOME

__all__ = ["Process"]

OUTPUT_LIMIT = 1_000_000  # bytes of a process's output that are kept


class Process:
    """A grading process with its output, which is cut, and all that it starts."""

    def __init__(self, command: list[str], folder: Path, pipe: int) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(HOME), "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            pass_fds=[pipe],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._output = bytearray()
        self._killed = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), 65536):
            if len(self._output) < OUTPUT_LIMIT:
                self._output += data

    def output(self) -> bytes:
        return bytes(self._output)

    def runs(self) -> bool:
        """Without collecting its status: until `kill` has ended its group, no other process may get its number."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def ending(self) -> str:
        status = self._process.returncode
        if status < 0:
            return f"was ended by signal {-status} ({signal.Signals(-status).name})"
        return f"ended (exit status {status})"

    def processor_time(self) -> float:
        """Seconds that it has used; where the system does not tell, real ones."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return time.monotonic()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_used(self) -> float:
        """MB that are in use, where the system tells."""
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def kill(self) -> None:
        """End it, and whatever it has started that has not left its session; once only."""
        if self._killed:
            return
        self._killed = True
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._process.wait()
        self._reader.join(1)  # at most, should something that has left the session keep the pipe open
        if self._process.stdout is not None:
            self._process.stdout.close()
