"""What a run imports, and on which systems it could run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from conftest import REPOSITORY

HIDDEN = ("_posixshmem", "fcntl", "grp", "nis", "pwd", "readline", "resource", "spwd", "syslog", "termios", "tty")
"""Modules that only POSIX systems have, and that Python itself can do without."""

HIDE = f"""
import sys, time, os

for name in {HIDDEN!r}:
    sys.modules[name] = None
for name in ("clock_gettime", "clock_gettime_ns", "pthread_getcpuclockid"):
    vars(time).pop(name, None)
for name in ("fork", "forkpty", "getuid", "geteuid", "killpg", "register_at_fork", "setsid", "sched_getaffinity"):
    vars(os).pop(name, None)
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_a_virtual_run_needs_nothing_that_only_posix_has() -> None:
    """As on Windows, which cannot be tried here. `--isolate` and grading are for POSIX, and say so."""
    done = run(HIDE, "-m", "2A", "--sim", "-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", "tests/test_2a.py")
    assert done.stdout.count("... Passed --") + done.stdout.count("expected one leader") >= 3, done.stdout + done.stderr


IMPORTED = """
import sys, pytest
pytest.main(["-m", "2A", "-q", "-p", "no:cacheprovider", "--collect-only", *sys.argv[1:]])
print(*sys.modules)
"""


@pytest.mark.parametrize("how", [[], ["--sim"]], ids=["real", "sim"])
def test_a_run_imports_nothing_that_it_does_not_need(how: list[str]) -> None:
    modules = set(run(IMPORTED, *how).stdout.rpartition("\n")[0].rpartition("\n")[2].split())
    assert "labrun.plugin" in modules
    assert not modules & {"labsim.race", "labsim.rewrite", "labrun.isolated.judge", "labgrade", "subprocess32"}
    assert not [name for name in modules if name.startswith("test_lab")]  # nor the hundreds of tests of the harness
