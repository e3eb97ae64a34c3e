"""--isolate with right Rafts: they pass."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conftest import REPOSITORY, Lab

pytestmark = pytest.mark.skipif(os.name != "posix", reason="players are started as POSIX has it")

STYLES = sorted((REPOSITORY / "tests/harness/staff/styles").glob("*.py"))


@pytest.mark.parametrize("raft", [REPOSITORY / "raft/raft.py", *STYLES], ids=lambda path: path.stem)
def test_a_right_raft_passes(lab: Lab, raft: Path) -> None:
    result = lab.run("-m", "2A", "-k", "Initial", "--isolate", "--raft", raft)
    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines(
        [
            r"lab: --raft \S+ --seed \d+, isolated processes",
            r"Test \(2A\): initial election \.\.\.",
            r"  \.\.\. Passed --   [345]\.\d  3 +\d+ +\d+    0",
        ]
    )
