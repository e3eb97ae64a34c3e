"""What a cluster brings: `python tests/harness/staff/bench_cluster.py [SUBMISSIONS]`, on workers of this machine.

Prints the time of one grading with four workers and with one, and whether grades.csv is the same, byte for byte.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import distributed

from labgrade.__main__ import main

STYLES = Path(__file__).parent / "styles"
HOW = ["--sim", "--trials", "5", "--confirm", "0", "--seed", "1"]


def hand_in(folder: Path, submissions: int) -> list[str]:
    """Rafts that work, in five styles."""
    styles = sorted(STYLES.glob("*.py"))
    for number in range(submissions):
        source = styles[number % len(styles)].read_text()
        (folder / f"s{number:04}.py").write_text(f"{source}\n# {number}\n")
    return sorted(map(str, folder.glob("s*.py")))


def bench(submissions: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        Path(scratch).chmod(0o755)
        everybody = hand_in(Path(scratch), submissions)
        took, grades = {}, {}
        for workers in (4, 1):
            with distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster:
                out = f"{scratch}/out{workers}"
                began = time.monotonic()
                assert main(["grade", *everybody, *HOW, "--out", out, "--cluster", cluster.scheduler_address]) == 0
                took[workers] = time.monotonic() - began
                grades[workers] = Path(out, "grades.csv").read_bytes()
        for workers, seconds in took.items():
            print(
                f"{workers} workers: {submissions} submissions in {seconds:.1f} s, {submissions / seconds:.2f} a second"
            )
        print(f"{took[1] / took[4]:.2f} times as fast; the same grades.csv: {grades[1] == grades[4]}")


if __name__ == "__main__":
    bench(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
