"""Gradescope's autograder: a zip of its scripts and the lab, and what they do for each submission.

`make_zip` writes the zip that "Configure Autograder" takes: `setup.sh` and `run_autograder` at its top, `lab/`, the lab
with its grader and without solutions, and `course/`, the policy with the tests of the course's own.

Gradescope unpacks it into /autograder/source, runs setup.sh once, and for each submission run_autograder, in a
container of its own, as root, by default for ten minutes with 768 MB of memory and half a processor. That calls `main`,
which grades /autograder/submission into /autograder/results/results.json by the same policy as a class:

1. a result that says "not finished" is written first, should the container be ended;
2. whether it is late is taken from submission_metadata.json (`created_at` and the assignment's `due_date`);
3. one virtual trial of each test, which tells what they take; then as many as fit into VIRTUAL of the time;
4. one isolated trial of each test that has passed those, side by side; then as many more rounds as fit;
5. what there was no time for is `not_run`, and worth what the policy says.

So that a submission that hangs leaves time for its other tests, a trial may take at most its part of the time. Around
what runs a submission is the sandbox; in a container there are seldom namespaces, so it will be `user`: the submission
cannot reach the results, nor the grader.

The environment may say otherwise than Gradescope's defaults: AUTOGRADER_ROOT (/autograder), AUTOGRADER_SECONDS (600)
and AUTOGRADER_MEMORY (768, in MB), for a container that has been given more.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
import zipfile
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from labgrade import handout, intake
from labgrade.batch import Batch, Here, collect, written
from labgrade.block import Runner
from labgrade.policy import Grading, GradingError
from labgrade.protocol import Stage
from labgrade.publish import publish

__all__ = ["main", "make_zip"]

SECONDS, MEMORY = 600, 768  # Gradescope's defaults; s, MB
RESERVE = 0.07  # of the time, for starting and for writing results
VIRTUAL = 0.45  # of the rest, for virtual trials, if there are isolated ones
GRADER = 128  # MB that the grader takes itself
SIDE_BY_SIDE = 2  # isolated trials
LEAST = 10.0  # s for one trial, which the longest test of a right Raft does not need


# -- the zip -----------------------------------------------------------------------------------------------------------


def make_zip(file: Path, grading: Grading) -> None:
    """Raises GradingError if it cannot be written."""
    here = Path(__file__).parent
    tests = [Path(name) for name in grading.tests]
    try:
        with tempfile.TemporaryDirectory(prefix="labgrade-") as scratch:
            lab = Path(scratch) / "lab"
            handout.grader(lab)
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as whole:
                for name in ("setup.sh", "run_autograder"):
                    whole.writestr(_runnable(name), (here / name).read_bytes())
                policy = asdict(replace(grading, tests=[test.name for test in tests]))
                whole.writestr("course/policy.json", json.dumps(policy, indent=1))
                for test in tests:
                    whole.write(test, f"course/{test.name}")
                for path in sorted(path for path in lab.rglob("*") if path.is_file()):
                    whole.write(path, path.relative_to(scratch))
    except OSError as e:
        raise GradingError(f"{e.filename or file}: {e.strerror or e}") from None


def _runnable(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o100755 << 16
    return info


# -- a submission ------------------------------------------------------------------------------------------------------


def main(root: Path) -> int:
    """Grade the submission below `root`. Returns 0, whatever it is worth."""
    began = time.monotonic()
    results = root / "results" / "results.json"
    results.parent.mkdir(exist_ok=True)
    unfinished = "It was not finished in the time there is: submit again, or ask the staff"
    written(results, json.dumps({"score": 0, "output": unfinished}).encode())
    try:
        found = _graded(root, began)
    except GradingError as e:
        print(f"labgrade: {e}", file=sys.stderr)  # Gradescope shows it to the staff
        found = {"score": 0, "output": "It could not be graded: ask the staff", "stdout_visibility": "hidden"}
    written(results, json.dumps(found | {"execution_time": round(time.monotonic() - began)}, indent=1).encode())
    return 0


def _graded(root: Path, began: float) -> dict[str, Any]:
    seconds, memory = (int(os.environ.get(f"AUTOGRADER_{name}", most)) for name, most in _MOST.items())
    end = began + seconds * (1 - RESERVE)
    policy = msgspec.json.decode((root / "source/course/policy.json").read_bytes(), type=Grading)
    policy = replace(policy, tests=[str(root / "source/course" / name) for name in policy.tests])
    in_all = max(memory - GRADER, GRADER)
    policy = replace(policy, memory=min(policy.memory, in_all), memory_in_all=in_all)
    (submission,) = intake.look([root / "submission"])
    submission = replace(submission, late=_is_late(root / "submission_metadata.json"))
    out = Path(tempfile.mkdtemp(prefix="labgrade-"))
    out.chmod(0o755)  # whoever runs it may be another user
    tests = collect(policy)
    policy = replace(policy, timeout=_timeout(policy, len(tests), seconds))
    batch = Batch([submission], policy, out)
    try:
        batch.prepare(tests)
        print(*batch.news, sep="\n", flush=True)
        _run(batch, began, end)
        publish(batch)
        return dict(json.loads((out / submission.name / "results.json").read_text()))
    finally:
        batch.close()
        shutil.rmtree(out, ignore_errors=True)


_MOST = {"SECONDS": SECONDS, "MEMORY": MEMORY}


def _is_late(file: Path) -> bool:
    """Whether it was handed in after it was due. Who says nothing about that is in time."""
    try:
        metadata = json.loads(file.read_text())
        handed_in, due = metadata["created_at"], metadata["assignment"]["due_date"]
        return datetime.fromisoformat(handed_in) > datetime.fromisoformat(due)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _timeout(policy: Grading, tests: int, seconds: float) -> float:
    """s for one trial: so little that all tests may hang in virtual time, on half a processor; but not too little."""
    return min(policy.limit, max(LEAST, seconds * VIRTUAL / 2 / tests))


def _run(batch: Batch, began: float, end: float) -> None:
    asked, now = batch.grading, time.monotonic()
    virtual_end = now + (end - now) * VIRTUAL if asked.confirm else end
    trials = _rounds(batch, "trials", asked.trials, virtual_end)
    confirm = _rounds(batch, "isolated", asked.confirm, end)
    batch.out_of_time |= trials < asked.trials or confirm < asked.confirm
    batch.grading = asked


def _rounds(batch: Batch, stage: Stage, asked: int, end: float) -> int:
    """Run trials of a stage, as many of each test as are asked for and fit into the time: how many that were."""
    done, more, now = 0, min(1, asked), time.monotonic()
    while more and now < end:
        g = batch.grading
        batch.grading = replace(g, trials=done + more) if stage == "trials" else replace(g, confirm=done + more)
        engine = Here(Runner(batch.grading, batch.processes), 1, SIDE_BY_SIDE)
        batch.run(engine, lambda: None, [stage], end)
        done += more
        before, now = now, time.monotonic()
        more = min(asked - done, int((end - now) / max((now - before) / more, 0.001)))
    return done
