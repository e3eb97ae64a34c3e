"""Isolated trials give the points: what works in one process only has none, and a human is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import REPOSITORY
from labgrade import batch
from labgrade.__main__ import main
from labgrade.protocol import Run
from labrun.record import Record
from sandboxed import needs_sandbox
from test_labgrade import grades_of

STYLES = REPOSITORY / "tests/harness/staff/styles"

pytestmark = needs_sandbox

# A Raft whose servers agree on a leader without a message: by `shared()`, a list of the servers that have been made.
SHARING = """
import threading

class Raft:
    def __init__(self, peers, me):
        self.peers, self.me, self.dead, self.mu = peers, me, False, threading.Lock()
        servers = shared()
        servers[:] = [rf for rf in servers if rf.me != me and len(rf.peers) == len(peers) and not rf.dead] + [self]

    def Ping(self, args, reply):
        reply.ok = True

    def reaches(self):
        return 1 + sum(end.Call("Raft.Ping", Ping(), Ping()) for i, end in enumerate(self.peers) if i != self.me)

    def GetState(self):
        servers = sorted(shared(), key=lambda rf: rf.me)
        leads = [rf.me for rf in servers if rf.reaches() * 2 > len(rf.peers)]
        return 1, bool(leads) and leads[0] == self.me

    def Start(self, command):
        return -1, 1, False

    def Kill(self):
        self.dead = True

from dataclasses import dataclass

@dataclass
class Ping:
    ok: bool = False

def Make(peers, me, persister, applyCh):
    return Raft(peers, me)
"""

# One that leads and says what the cheat makes of it.
ALONE = """
class Raft:
    def __init__(self, me):
        self.me = me
    def GetState(self):
        return 1, self.me == 0
    def Start(self, command):
        return -1, 1, False
    def Kill(self):
        pass
"""

CHEATS = {
    "shares_a_global": "servers = []\ndef shared():\n    return servers\n" + SHARING,
    "shares_a_class_attribute": "class All:\n    servers = []\ndef shared():\n    return All.servers\n" + SHARING,
    "shares_a_default": "def shared(servers=[]):\n    return servers\n" + SHARING,
    "shares_through_builtins": (
        "import builtins\ndef shared():\n    return builtins.__dict__.setdefault('servers', [])\n" + SHARING
    ),
    "shares_a_file": (
        "import tempfile, pathlib\n"
        "def Make(peers, me, persister, applyCh):\n"
        "    file = pathlib.Path(tempfile.gettempdir(), 'leader')\n"
        "    if not file.exists():\n        file.write_text(str(me))\n"
        "    rf = Raft(me)\n    rf.GetState = lambda: (1, file.read_text() == str(me))\n    return rf\n" + ALONE
    ),
    "turns_failures_into_passes": (
        "import json\n"
        "real = json.dumps\n"
        "json.dumps = lambda *a, **k: real(*a, **k).replace('failed', 'passed')\n"
        "import msgspec\n"
        "from labrun import record, report\n"
        "def to_line(r):\n    return msgspec.json.encode(r.changed(outcome='passed', cause='', message=''))\n"
        "record.to_line = report.to_line = to_line\n"
        "def Make(peers, me, persister, applyCh):\n    return Raft(me)\n" + ALONE
    ),
    "writes_records_itself": (
        "import glob, json, sys\n"
        "def forge():\n"
        "    where = [a.partition('=')[2] for a in sys.argv if a.startswith('--report=')]\n"
        "    for report in where:\n"
        "        with open(report + '/records.jsonl', 'a') as file:\n"
        "            for test in ('TestInitialElection2A', 'TestReElection2A', 'TestManyElections2A'):\n"
        "                for trial in range(9):\n"
        "                    file.write(json.dumps(dict(nodeid='x', test=test, trial=trial, seed=0, mode='isolated',\n"
        "                        outcome='passed')) + '\\n')\n"
        "forge()\n"
        "def Make(peers, me, persister, applyCh):\n    forge()\n    return Raft(me)\n" + ALONE
    ),
    "patches_what_gc_finds": (
        "import gc\n"
        "def Make(peers, me, persister, applyCh):\n"
        "    for found in gc.get_objects():\n"
        "        if type(found).__name__ == 'Config' and hasattr(found, 'checkTerms'):\n"
        "            found.checkOneLeader = found.checkTerms = lambda: 0\n"
        "            found.checkNoLeader = lambda: None\n"
        "    return Raft(me)\n" + ALONE
    ),
    "patches_callers_frames": (
        "import sys\n"
        "def Make(peers, me, persister, applyCh):\n"
        "    frame = sys._getframe()\n"
        "    while frame:\n"
        "        cfg = frame.f_locals.get('self')\n"
        "        if hasattr(cfg, 'checkOneLeader'):\n"
        "            for name in ('checkOneLeader', 'checkTerms', 'checkNoLeader'):\n"
        "                setattr(cfg, name, lambda: 0)\n"
        "        frame = frame.f_back\n"
        "    return Raft(me)\n" + ALONE
    ),
    "makes_tests_that_pass": (
        "import sys\n"
        "for module in list(sys.modules.values()):\n"
        "    for name in [n for n in vars(module) if n.startswith('Test') and n.endswith('2A')]:\n"
        "        try:\n            vars(module)[name].__code__ = (lambda make_config: None).__code__\n"
        "        except Exception:\n            pass\n"
        "def Make(peers, me, persister, applyCh):\n    return Raft(me)\n" + ALONE
    ),
    "leaves_by_pytest_exit": ("import pytest\ndef Make(*a):\n    pytest.exit('all passed', returncode=0)\n"),
    "skips": "import pytest\ndef Make(*a):\n    pytest.skip('not today')\n",
    "borrows_a_right_one": (
        "import glob, labrun\n"
        "for file in glob.glob(str(labrun.HOME) + '/**/*.py', recursive=True):\n"
        "    text = open(file).read()\n"
        "    if 'def Make(peers' in text and 'RequestVote' in text and 'skeleton' not in file:\n"
        "        try:\n            exec(text, globals())\n            break\n"
        "        except Exception:\n            pass\n"
        "else:\n    def Make(peers, me, persister, applyCh):\n        return Raft(me)\n" + ALONE
    ),
    "borrows_a_neighbours": (
        "import glob, os\n"
        "found = glob.glob('../**/honest*.py', recursive=True) + glob.glob('/tmp/**/honest*.py', recursive=True)\n"
        "if found:\n    exec(open(found[0]).read(), globals())\n"
        "else:\n    def Make(peers, me, persister, applyCh):\n        return Raft(me)\n" + ALONE
    ),
    "decorates_the_fixture": (
        "from labrun import plugin\n"
        "plugin.LabItem.run = plugin.LabItem._run = lambda self: None\n"
        "import _pytest.runner\n"
        "_pytest.runner.CallInfo.excinfo = None\n"
        "def Make(peers, me, persister, applyCh):\n    return Raft(me)\n" + ALONE
    ),
    "shares_a_socket": (
        "import socket\n"
        "def Make(peers, me, persister, applyCh):\n"
        "    s = socket.socket()\n"
        "    rf = Raft(me)\n"
        "    try:\n        s.bind(('127.0.0.1', 45123))\n        rf.leads = True\n"
        "    except OSError:\n        rf.leads = False\n"
        "    rf.s = s\n    rf.GetState = lambda: (1, rf.leads)\n    return rf\n" + ALONE
    ),
}


def test_no_cheat_has_more_than_a_server_that_always_leads(tmp_path: Path) -> None:
    """Of the lab's own checks one sees nothing wrong with that: it is the most that no Raft at all can have."""
    handed_in = tmp_path / "in"
    handed_in.mkdir()
    (handed_in / "always_leads.py").write_text(
        "def Make(peers, me, persister, applyCh):\n    return Raft(me)\n" + ALONE
    )
    (handed_in / "honest.py").write_text((STYLES / "ticker.py").read_text())
    for name, source in CHEATS.items():
        (handed_in / f"{name}.py").write_text(source)
    out = tmp_path / "out"
    how = ["--sim", "--trials", "1", "--confirm", "1", "--seed", "5", "--timeout", "30"]
    assert main(["grade", *sorted(map(str, handed_in.iterdir())), *how, "--out", str(out)]) == 0
    grades = grades_of(out)
    assert grades["honest"]["score"] == 30
    most = grades["always_leads"]["score"]
    assert most == 10
    assert {name: grades[name]["score"] for name in CHEATS if grades[name]["score"] > most} == {}
    (mark,) = [mark for mark in grades["shares_a_global"]["look"] if mark.startswith("TestInitialElection2A")]
    assert "passes in one process, fails isolated: do the servers share something" in mark
    story = {
        test["name"]: test["output"] for test in json.loads((out / "shares_a_global/results.json").read_text())["tests"]
    }
    assert (
        "1 of 1 trials passed, and all must; with each server in a process of its own, 0 of 1"
        in story["TestInitialElection2A"]
    )
    assert "do the servers share something" in story["TestInitialElection2A"]
    assert (
        "repeat with: pytest -m 2A -k TestInitialElection2A --raft shares_a_global.py --isolate"
        in story["TestInitialElection2A"]
    )
    assert [p for p in (out / "shares_a_global/logs").iterdir() if p.name.startswith("isolated-")]


@pytest.fixture
def one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shortest test of the lab alone."""
    monkeypatch.setattr(batch, "collect", lambda grading: ["TestInitialElection2A"])


def on_a_busy_machine(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the first isolated trials say that the machine was too busy, whatever they found."""
    new_records = Run.new_records
    left = [times]

    def busy(self: Run) -> Iterator[Record]:
        for record in new_records(self):
            if record.mode == "isolated" and left[0]:
                left[0] -= 1
                record = record.changed(outcome="failed", cause="load", message="the machine was too busy to judge")
            yield record

    monkeypatch.setattr(Run, "new_records", busy)


@pytest.mark.usefixtures("one_test")
def test_a_busy_machine_costs_no_points_and_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ann.py").write_text((STYLES / "ticker.py").read_text())
    how = [str(tmp_path / "ann.py"), "--sim", "--trials", "1", "--confirm", "1", "--seed", "5"]
    on_a_busy_machine(monkeypatch, 2)
    assert main(["grade", *how, "--out", str(tmp_path / "out")]) == 0
    assert grades_of(tmp_path / "out")["ann"]["score"] == 10
    assert "2 isolated trials were run again, as the machine was too busy to judge" in capsys.readouterr().out


@pytest.mark.usefixtures("one_test")
def test_what_could_not_be_judged_is_run_by_the_same_command_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ann.py").write_text((STYLES / "ticker.py").read_text())
    how = [str(tmp_path / "ann.py"), "--sim", "--trials", "1", "--confirm", "1", "--seed", "5"]
    monkeypatch.setattr(batch, "AGAIN", 1)
    with monkeypatch.context() as patch:
        on_a_busy_machine(patch, 100)
        assert main(["grade", *how, "--out", str(tmp_path / "out")]) == 0
    ann = grades_of(tmp_path / "out")["ann"]
    assert ann["score"] == 0
    assert ann["look"] == [
        "TestInitialElection2A: 1 isolated trials have no record: the machine was too busy to judge; the same command "
        "runs them again"
    ]
    assert main(["grade", *how, "--out", str(tmp_path / "out")]) == 0
    assert grades_of(tmp_path / "out")["ann"]["score"] == 10


@pytest.mark.usefixtures("one_test")
def test_points_without_isolated_trials_come_with_a_warning_and_suspicious_passes_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaks = "\nimport threading\nmade = Make\ndef Make(*a):\n    threading.Thread(target=wait).start()\n    return made(*a)\n"
    waits = "def wait():\n    import time\n    while True:\n        time.sleep(0.05)\n"
    (tmp_path / "ann.py").write_text((STYLES / "ticker.py").read_text() + leaks + waits)
    how = [str(tmp_path / "ann.py"), "--sim", "--trials", "3", "--confirm", "0", "--seed", "5"]
    assert main(["grade", *how, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "WARNING: no isolated trials (--confirm 0): these points come from processes in which the submission" in said
    assert "look at:\n  ann: TestInitialElection2A: LeakWarning: thread 'Thread-" in said
    (mark,) = grades_of(tmp_path / "out")["ann"]["look"]
    assert mark.endswith("(in 3 trials that passed)")
