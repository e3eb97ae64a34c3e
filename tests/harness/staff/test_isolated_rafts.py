"""--isolate with right Rafts: they pass, in the shortest tests of each part."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conftest import REPOSITORY, Lab

pytestmark = pytest.mark.skipif(os.name != "posix", reason="players are started as POSIX has it")

STYLES = sorted((REPOSITORY / "tests/harness/staff/styles").glob("*.py"))


@pytest.mark.parametrize("raft", [REPOSITORY / "raft/raft.py", *STYLES], ids=lambda path: path.stem)
def test_a_right_raft_passes(lab: Lab, raft: Path) -> None:
    tests = "TestInitialElection2A or TestBasicAgree2B or TestPersist32C or TestSnapshotInit2D"
    result = lab.run("-m", "2A or 2B or 2C or 2D", "-k", tests, "--isolate", "--raft", raft)
    result.assert_outcomes(passed=4)
    result.stdout.re_match_lines(
        [
            r"lab: --raft \S+ --seed \d+, isolated processes",
            r"Test \(2A\): initial election \.\.\.",
            r"  \.\.\. Passed --   [345]\.\d  3 +\d+ +\d+    0",
        ]
    )
