"""README.md: what stands there is what the code says."""

from __future__ import annotations

import io
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import labgob
from conftest import REPOSITORY
from labgrade import policy
from labgrade.gallery import bugs
from labrun import settings, virtual
from labsim.scheduler import CREEP
from raft.config import KILL_PATIENCE
from raft.raft import LogEntry

README = (REPOSITORY / "README.md").read_text()
FLAT = " ".join(README.split())


@pytest.mark.parametrize("option", settings.OPTIONS)
def test_every_option_stands_in_it(option: str) -> None:
    assert f"`{option}" in README


def test_every_option_that_it_names_exists() -> None:
    known = {*settings.OPTIONS, *re.findall(r"--[a-z-]+", (REPOSITORY / "labgrade/__main__.py").read_text())}
    of_others = {"--junitxml", "--timeout"}
    assert set(re.findall(r"`(?:pytest [^`]*)?(--[a-z-]+)", README)) <= known | of_others


def test_the_delays_of_virtual_time() -> None:
    w = virtual.WAKEUPS
    us = {name: (least // 1000, mean // 1000) for name, (least, mean) in vars(w).items()}
    assert f"(exponential; {us['start'][1]} and {us['signal'][1]} us in the mean, {us['start'][0]} at least)" in FLAT
    assert us["start"][0] == us["signal"][0]
    assert f"exponential, {us['timer'][1]} us in the mean, {us['timer'][0]} at least" in FLAT
    assert f"encoding takes {virtual.ENCODE_NS} ns a byte, decoding {virtual.DECODE_NS}, and each lock" in FLAT
    assert f"or thread started, {CREEP // 1000} us" in FLAT


def test_the_policy_that_it_shows_is_one(tmp_path: Path) -> None:
    (found,) = re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "policy.toml").write_text(found)
    grading = policy.read(tmp_path / "policy.toml")
    assert (grading.trials, grading.confirm, grading.mode) == (50, 3, "sim")


def test_the_lab_test_that_it_shows_for_a_course_is_one(pytester: pytest.Pytester) -> None:
    (found,) = re.findall(r"^  ```python\n(.*?)^  ```", README, re.MULTILINE | re.DOTALL)
    pytester.makepyfile(test_mine=textwrap.dedent(found))
    command = [sys.executable, "-m", "pytest", "-m", "2B", "--sim", "--raft", f"{REPOSITORY}/raft/raft.py"]
    result = pytester.run(*command, "--strict-markers", timeout=60)
    result.assert_outcomes(passed=1)
    assert "Warning" not in result.stdout.str()


def test_the_defaults() -> None:
    assert f"another thread goes first (default {settings.RACE_SHARE})" in FLAT
    assert f"fails after {KILL_PATIENCE:g} s, with who holds the lock" in FLAT


def test_what_a_saved_log_takes() -> None:
    def size(entries: int) -> int:
        w = io.BytesIO()
        e = labgob.NewEncoder(w)
        values: list[Any] = [7, 1, [LogEntry(7, 2**62 + i) for i in range(entries)], 9, 7]
        for value in values:
            e.Encode(value)
        return len(w.getvalue())

    assert f"{size(0)} + {size(1) - size(0)} bytes an entry" in FLAT


def test_the_bugs_that_it_names_are_in_the_gallery() -> None:
    names = {bug.name for bug in bugs()}
    chapter = README.partition("## How we know that it judges as Go does")[2].partition("## Differences")[0]
    named = re.findall(r"^\| `(\w+)` \|", chapter, re.MULTILINE)
    assert len(named) == 5
    assert set(named) <= names
