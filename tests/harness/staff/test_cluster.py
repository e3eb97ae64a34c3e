"""Grading on a cluster: a real one of Dask's, of processes of this machine, to which accidents happen."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import distributed
import pytest

from conftest import REPOSITORY
from labgrade import cluster
from labgrade.__main__ import main
from labgrade.block import Graded, Runner
from labgrade.intake import Submission
from labgrade.policy import Grading
from labgrade.process import Processes
from labgrade.protocol import Key
from sandboxed import needs_sandbox
from test_grading_goes_on import BAD, GOOD, STYLES
from test_labgrade import HOSTILE, grades_of

pytestmark = needs_sandbox

KINDS = [
    *(style.read_text() for style in sorted(STYLES.glob("*.py"))),
    BAD,
    HOSTILE["aborts"][0],
    HOSTILE["exits"][0],
    "import os, signal\ndef Make(*a):\n    os.kill(os.getppid(), signal.SIGKILL)\n    os.kill(0, signal.SIGKILL)\n",
]
HOW = ["--sim", "--trials", "2", "--confirm", "0", "--seed", "1", "--give-up", "1"]


def hand_in(folder: Path, number: int) -> list[str]:
    folder.mkdir()
    for k in range(number):
        (folder / f"s{k:03}.py").write_text(f"{KINDS[k % len(KINDS)]}\n# {k}\n")
    return sorted(map(str, folder.iterdir()))


@pytest.fixture
def workers() -> Iterator[distributed.LocalCluster]:
    """Four, each a process."""
    found = distributed.LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None)
    yield found
    with contextlib.suppress(TimeoutError):  # of a cluster whose scheduler has been stopped
        found.close(timeout=10)


def records(out: Path) -> int:
    return sum(len(file.read_bytes().splitlines()) for file in out.glob("*/runs/*/box/report/records.jsonl"))


def until(out: Path, share: float, grading: subprocess.Popen[bytes], said: Path) -> None:
    """Wait until so many records have come."""
    while records(out) < share:
        assert grading.poll() is None, said.read_text()
        time.sleep(0.1)


def accidents(folder: Path, workers: distributed.LocalCluster, number: int) -> None:
    """A worker is killed, then the scheduler stopped, and the same command given again: all is as without them."""
    everybody = hand_in(folder / "in", number)
    out, most = folder / "out", 6 * number
    command = [sys.executable, "-m", "labgrade", "grade", *everybody, *HOW, "--out", str(out)]
    on_cluster = [*command, "--cluster", workers.scheduler_address]
    said = folder / "said.txt"
    with said.open("wb") as output:
        grading = subprocess.Popen(on_cluster, cwd=REPOSITORY, stderr=output, stdout=output)
    until(out, most // 5, grading, said)
    killed = workers.workers[0].process.pid
    os.kill(killed, signal.SIGKILL)
    until(out, most // 2, grading, said)
    workers.sync(workers.scheduler.close)
    assert grading.wait(100) == 2, said.read_text()
    assert "the scheduler does not answer any more" in said.read_text()
    assert "Nothing is lost: the same command goes on" in said.read_text()
    kept = records(out)
    assert 0 < kept < most
    with distributed.LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None) as again:
        assert main([*command[3:], "--cluster", again.scheduler_address]) == 0
    undisturbed = folder / "undisturbed"
    assert main(["grade", *everybody, *HOW, "--out", str(undisturbed), "-n", "2"]) == 0
    assert (out / "grades.csv").read_bytes() == (undisturbed / "grades.csv").read_bytes()
    for name in ("s000", "s005", "s006"):  # a good one, a bad one, one that ends its process
        assert (out / name / "results.json").read_text() == (undisturbed / name / "results.json").read_text()
        assert records_of(out / name) == records_of(undisturbed / name)


def records_of(folder: Path) -> list[dict[str, object]]:
    found = []
    for file in sorted(folder.glob("runs/*/box/report/records.jsonl")):
        for line in file.read_bytes().splitlines():
            record = json.loads(line)
            del record["elapsed"]
            found.append(record)
    return sorted(found, key=lambda r: (r["test"], r["trial"]))


@pytest.mark.timeout(600)
def test_a_lost_worker_and_a_lost_scheduler_change_no_grade(tmp_path: Path, workers: distributed.LocalCluster) -> None:
    accidents(tmp_path, workers, 18)


@pytest.mark.timeout(300)
def test_isolated_trials_and_tests_of_ones_own_run_there_too(
    tmp_path: Path, workers: distributed.LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_course import MINE

    monkeypatch.setattr("labgrade.batch.collect", lambda grading: ["TestMine2A"])
    (tmp_path / "test_mine.py").write_text(MINE)
    (tmp_path / "ann.py").write_text(GOOD)
    how = ["--with", f"{tmp_path}/test_mine.py", "--sim", "--trials", "1", "--confirm", "2", "--seed", "1"]
    out = tmp_path / "out"
    command = ["grade", f"{tmp_path}/ann.py", *how, "--out", str(out), "--cluster", workers.scheduler_address]
    assert main(command) == 0
    (test,) = grades_of(out)["ann"]["tests"]
    assert (test["passed"], test["isolated_passed"], test["score"]) == (1, 2, 10)


def test_a_worker_with_another_lab_grades_nothing_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ann.py").write_text(GOOD)
    grading = Grading(mode="sim", sandbox="none", trusted=True)
    runner = Runner(grading, Processes(grading, tmp_path))
    graded = Graded(Submission(tmp_path / "ann.py", "ann", solution="ann.py"), tmp_path)
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as here:
        engine = cluster.Cluster(here.scheduler_address, runner)
        job = engine._job(graded, "trials", [Key("TestReElection2A", 0)])
        monkeypatch.setattr(cluster, "version", lambda: "another")
        done = engine._executor.submit(cluster.run_block, job)
        done.result()
        monkeypatch.setattr(cluster, "version", lambda: "1.1.0+0123456789ab")
        with pytest.raises(
            cluster.GradingError, match=r"has lab another, and here it is 1\.1\.0\+0123456789ab: install"
        ):
            engine.collect(graded, "trials", [], done)
        engine.close()
    assert not (tmp_path / "runs").exists()


def test_a_scheduler_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "CONNECT", 1)
    (tmp_path / "ann.py").write_text(GOOD)
    command = ["grade", f"{tmp_path}/ann.py", *HOW, "--out", f"{tmp_path}/out", "--cluster", "tcp://127.0.0.1:9"]
    assert main(command) == 2
    assert "--cluster tcp://127.0.0.1:9: there is no scheduler" in capsys.readouterr().err
