"""GitHub Classroom's template repository: the students' tree, with a workflow that scores each push by the policy.

`.github/workflows/classroom.yml` runs `.github/classroom/grade.py` with what `.github/classroom/policy.json` says, and
hands its result to Classroom's reporter (classroom-resources/autograding-grading-reporter): base64 of
`{"version": 1, "status": ..., "max_score": ..., "tests": [{"name", "status", "score", "max_score", "message", ...}]}`.
The script runs pytest as a student would, and scores the records by labrun.scoring, as every grading does.

What Classroom cannot promise: the workflow runs in the student's repository, beside the submission, without the grader
and its sandbox. It is for feedback. Make `.github/**` protected paths in the assignment's settings, and grade what
counts with `python -m labgrade grade`.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

from labgrade.handout import Handout, HandoutError
from labgrade.policy import Grading
from labrun.settings import PARTS

__all__ = ["make_classroom"]

HERE = Path(__file__).parent / "workflow"


def make_classroom(folder: Path, grading: Grading, names: list[str]) -> list[str]:
    """Write the tree: what it holds, in words. `names` are the tests of the grading. Raises HandoutError."""
    last = max((part for part in PARTS if any(name.endswith(part) for name in names)), default="2D")
    made = Handout(last, list(map(Path, grading.tests)), harness=False, grading=grading, names=names)
    lines = made.make(folder)
    try:
        github = folder / ".github"
        (github / "workflows").mkdir(parents=True)
        (github / "classroom").mkdir()
        shutil.copyfile(HERE / "classroom.yml", github / "workflows" / "classroom.yml")
        shutil.copyfile(HERE / "grade.py", github / "classroom" / "grade.py")
        worth = {name: grading.worth(name) for name in names}
        policy = asdict(replace(grading, points=worth, tests=[])) | {"limit": grading.limit}
        (github / "classroom" / "policy.json").write_text(json.dumps(policy, indent=1))
    except OSError as e:
        raise HandoutError(f"the workflow cannot be written: {e}") from None
    return [*lines, "push it as a template repository, and name it in the assignment; protect .github/** there"]
