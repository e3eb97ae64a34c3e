"""What the tests of the harness share: a way to run the lab as its users do, in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

QUICK_TEST = """
import pytest

pytestmark = getattr(pytest.mark, "2A")

def TestQuick2A(make_config):
    with make_config(3) as cfg:
        cfg.begin("Test (2A): quick")
        cfg.checkTerms()
        cfg.end()

def TestOther2A(make_config):
    with make_config(5) as cfg:
        cfg.begin("Test (2A): other")
        cfg.end()
"""


class Lab:
    """A folder in which somebody runs the lab."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester

    def solution(self, source: str, name: str = "raft.py") -> Path:
        """Write a solution's file."""
        path = self.pytester.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return path

    def variant(self, body: str, name: str = "raft.py", top: str = "") -> Path:
        """Write a solution that is the shipped Raft, with some methods replaced by those in `body`."""
        return self.solution(VARIANT.format(top=top, body=body), name)

    def run(self, *args: object, timeout: float = 60) -> pytest.RunResult:
        """pytest on the lab's own tests, from this folder."""
        return self._pytest(f"--rootdir={REPOSITORY}", f"-c={REPOSITORY}/pyproject.toml", f"{REPOSITORY}/tests", *args)

    def run_quick(self, *args: object, source: str = QUICK_TEST, ini: str = "") -> pytest.RunResult:
        """pytest on lab tests that take no time, with this folder as the project."""
        (self.pytester.path / "conftest.py").write_text("")
        (self.pytester.path / "test_quick.py").write_text(source)
        settings = f"raft = {REPOSITORY}/raft/raft.py\n{ini}"
        (self.pytester.path / "pytest.ini").write_text(f"[pytest]\n{settings}")
        return self._pytest(*args)

    def _pytest(self, *args: object) -> pytest.RunResult:
        return self.pytester.run(sys.executable, "-m", "pytest", *map(str, args), timeout=100)


VARIANT = """
import os, sys, threading, time
from dataclasses import dataclass, field
import raft.raft as base
from raft.raft import *
{top}

class Raft(base.Raft):
{body}

def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
"""


@pytest.fixture
def lab(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return Lab(pytester)
