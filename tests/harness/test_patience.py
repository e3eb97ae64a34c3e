"""Calls into the solution that do not return, on real threads."""

from __future__ import annotations

import itertools
import runpy
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from labrun import patience, solution
from labrun.real import RealTrial
from raft.config import Config, LabFailure

SOLUTION = """
import threading, time
from raft.api import ApplyMsg

class Raft:
    def __init__(self, me, applyCh):
        self.me, self.applyCh = me, applyCh
        self.mu = threading.Lock()
        self.over = threading.Event()
    def hold(self):
        with self.mu:
            self.over.wait()
    def GetState(self):
        with self.mu:
            return 1, False
    def Start(self, command):
        if command == "hold":
            threading.Thread(target=self.hold).start()
            time.sleep(0.05)
        else:
            with self.mu:
                pass
        return -1, 1, False
    def Kill(self):
        self.over.set()

def Make(peers, me, persister, applyCh):
    return Raft(me, applyCh)
"""

STORIES = """
import threading
from labrun import patience

def hangs(make_config):
    with make_config(1) as cfg:
        cfg.rafts[0].Start("hold")
        cfg.GetState(0)

def joins(make_config):
    with make_config(1) as cfg:
        cfg.rafts[0].Start("hold")
        client = threading.Thread(target=lambda: cfg.rafts[0].Start(1))
        client.start()
        client.join()

def waits_for_somebody_who_thinks(make_config):
    with make_config(1) as cfg:
        cfg.rafts[0].Start("hold")
        threading.Thread(target=lambda: patience.thought.wait() and cfg.rafts[0].over.set()).start()
        cfg.GetState(0)
        cfg.end()

def calls_often(make_config):
    with make_config(1) as cfg:
        for _ in range(200):
            cfg.GetState(0)
            cfg.sleep(0.005)
        cfg.end()
"""

Run = Callable[[str], None]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a story, with a tenth of a second of patience."""
    monkeypatch.setattr(patience, "PATIENCE", 0.1)
    monkeypatch.setattr(patience, "LOOK", 0.02)
    raft, stories = tmp_path / "raft.py", tmp_path / "test_stories.py"
    raft.write_text(SOLUTION)
    stories.write_text(STORIES)

    def run(story: str) -> None:
        trial = RealTrial(solution.find(str(raft), tmp_path), stories, "TestStory2A", 1, lambda line: None)
        test: Callable[[Callable[..., Config]], object] = runpy.run_path(str(stories))[story]
        trial.run(test)

    return run


def test_a_getstate_that_does_not_return_fails_with_who_holds_the_lock_and_where(run: Run) -> None:
    with pytest.raises(LabFailure) as caught:
        run("hangs")
    assert caught.value.message == "GetState has not returned for 0.1 s"
    assert caught.value.cause == "deadlock"
    facts = str(caught.value)
    assert "MainThread: in Raft.GetState, " in facts
    assert "waiting for mu of server 0, held by server 0 hold (in Raft.hold, " in facts


def test_a_story_that_waits_for_a_thread_that_hangs_is_told_too(run: Run) -> None:
    with pytest.raises(LabFailure, match="Start has not returned for"):
        run("joins")


def test_many_calls_are_not_taken_for_one(run: Run) -> None:
    run("calls_often")


def test_at_a_debuggers_prompt_there_is_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, thought = itertools.count(), threading.Event()

    def in_debugger(frame: FrameType) -> bool:
        if next(looks) == 50:  # many times more than there is patience
            thought.set()
        return True

    monkeypatch.setattr(patience, "thought", thought, raising=False)
    monkeypatch.setattr(patience, "in_debugger", in_debugger)
    run("waits_for_somebody_who_thinks")
    assert next(looks) > 50
