"""--isolate: servers in processes of their own, judged from outside."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import labgob
from conftest import REPOSITORY, Lab
from labrun import solution
from labrun.isolated import frames, judge
from labrun.isolated.judge import Died, IsolatedTrial, RemoteTraceback, Silent, TooBusy
from labrun.isolated.launcher import Launcher
from labrun.isolated.shared import shared
from raft.config import LabFailure, LeakWarning, Trial

pytestmark = pytest.mark.skipif(os.name != "posix", reason="players are started as POSIX has it")

SERVER = """
import gc, os, random, signal, socket, sys, threading, time
from dataclasses import dataclass, field, make_dataclass
from typing import Any
import labgob
from raft.api import ApplyMsg

@dataclass
class Args:
    Text: str = ""

@dataclass
class Reply:
    Text: str = ""

def connection():
    from labrun.isolated.player import Player
    return next(o for o in gc.get_objects() if isinstance(o, Player))

{top}

class Raft:
    def __init__(self, peers, me, persister, applyCh):
        self.peers, self.me, self.persister, self.applyCh = peers, me, persister, applyCh
        self.boot()

    def boot(self):
        pass

    def GetState(self):
        return 0, False

    def Start(self, command):
        return command, 0, False

    def Kill(self):
        pass

    def Echo(self, args, reply):
        reply.Text = args.Text

    def call(self, method="Raft.Echo", args=None, to=1):
        reply = Reply()
        return self.peers[to].Call(method, args or Args("x" * 100), reply), reply.Text

{body}

def Make(*args):
    return Raft(*args)
"""


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    launcher = Launcher()
    yield launcher
    launcher.close()


class Servers:
    """Makes trials of a server that does nothing but what a test adds to it."""

    def __init__(self, folder: Path, launcher: Launcher) -> None:
        self.folder = folder
        self.launcher = launcher

    def find(self, body: str = "", top: str = "") -> solution.Solution:
        file = self.folder / "raft.py"
        file.write_text(SERVER.format(body=textwrap.indent(textwrap.dedent(body), "    "), top=textwrap.dedent(top)))
        return solution.find("raft.py", self.folder)

    def isolated(self, body: str = "", top: str = "", launcher: Launcher | None = None) -> IsolatedTrial:
        return IsolatedTrial(self.find(body, top), "1:TestX", print, launcher or self.launcher)

    @contextlib.contextmanager
    def cluster(self, n: int, body: str = "", top: str = "", launcher: Launcher | None = None) -> Iterator[Any]:
        with self.isolated(body, top, launcher) as trial, trial.make_config(n) as cfg:
            yield cfg

    def run(
        self, n: int, body: str, top: str, steps: Callable[[Any], object], launcher: Launcher | None = None
    ) -> None:
        with self.cluster(n, body, top, launcher) as cfg:
            steps(cfg)

    @contextlib.contextmanager
    def here(self, body: str = "", top: str = "") -> Iterator[Trial]:
        with solution.loaded(self.find(body, top)) as module:
            yield Trial(module.Make, "1:TestX", print)


@pytest.fixture
def servers(tmp_path: Path, launcher: Launcher) -> Servers:
    return Servers(tmp_path, launcher)


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


EXECUTES = """
def Start(self, command):
    exec(command, globals() | {"self": self})
    return 1, 1, True
"""


def raise_of(cfg: Any, statement: str) -> None:
    """Let server 0 execute a statement, and raise what comes of it."""
    cfg.rafts[0].Start(statement)
    wait_for(cfg._trial.failed.is_set)
    cfg.check()


# --- what a right Raft sees -----------------------------------------------------------------------------------------


def test_calls_are_counted_to_the_byte_as_in_one_process(servers: Servers) -> None:
    body = "def Start(self, command): return *self.call(to=command), False"
    seen = []
    with servers.here(body) as here, servers.isolated(body) as isolated:
        for trial in (here, isolated):
            with trial.make_config(2) as cfg:
                seen.append((cfg.rafts[0].Start(1), cfg.rpcTotal(), cfg.bytesTotal(), cfg.rpcCount(1), cfg.rpcCount(0)))
    assert seen[0] == seen[1] == ((True, "x" * 100, False), 1, seen[0][2], 1, 0)


def test_a_call_to_a_server_that_is_not_reached_returns_false_and_leaves_the_reply_alone(servers: Servers) -> None:
    with servers.cluster(2, "def Start(self, command): return *self.call(), False") as cfg:
        cfg.net.LongDelays(False)
        cfg.disconnect(1)
        assert cfg.rafts[0].Start(1) == (False, "", False)


def test_a_call_stuck_in_a_handler_is_given_up_when_its_server_crashes(servers: Servers) -> None:
    body = """
        def Start(self, command): return *self.call("Raft.Sleep"), False
        def Sleep(self, args, reply):
            print("asleep")
            time.sleep(60)
    """
    with servers.cluster(2, body) as cfg:
        answers: list[Any] = []
        caller = threading.Thread(target=lambda: answers.append(cfg.rafts[0].Start(1)))
        caller.start()
        wait_for(lambda: cfg._trial.printed)
        cfg.crash1(1)
        caller.join(1)
        assert answers == [(False, "", False)]


def test_values_of_any_kind_cross_over_equal(servers: Servers) -> None:
    values = [None, True, -1, 1 << 70, 1.5, "text", b"\x00", [1, (2, 3)], {"k": {1, 2}}, ()]
    body = """
        def Start(self, command):
            threading.Thread(target=self.applyCh.put, args=(ApplyMsg(True, command, 1),)).start()
            return command, 0, False
    """
    with servers.cluster(1, body) as cfg:
        assert cfg.rafts[0].Start(values) == (values, 0, False)
        wait_for(lambda: cfg.nCommitted(1) == (1, values))


def test_a_save_holds_before_the_answer_that_follows_it(servers: Servers) -> None:
    body = """
        def Start(self, command):
            self.persister.SaveRaftState(b"x" * command)
            self.persister.Save(b"y" * command, b"")
            return self.persister.RaftStateSize(), 0, False
    """
    with servers.cluster(1, body) as cfg:
        for size in range(1, 200):
            assert cfg.rafts[0].Start(size)[0] == size == cfg.LogSize()


def test_a_crash_is_no_kill_and_only_what_was_saved_survives(servers: Servers) -> None:
    body = """
        def Start(self, command):
            STARTS.append(command)
            self.persister.SaveStateAndSnapshot(b"saved", b"")
            return STARTS, os.getpid(), False
        def Kill(self): self.persister.SaveRaftState(b"killed")
        def GetState(self): return self.persister.ReadRaftState()
    """
    with servers.cluster(2, body, top="STARTS = []") as cfg:
        rf: Any = cfg.rafts[0]
        pid = rf.Start(1)[1]
        begun = time.monotonic()
        cfg.crash1(0)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert time.monotonic() - begun < 1
        # Whoever still holds on to it is answered as by a server that does not lead.
        assert (rf.GetState(), rf.Start(1)) == ((0, False), (-1, 0, False))
        cfg.start1(0)
        new: Any = cfg.rafts[0]
        assert new.GetState() == b"saved"
        assert new.Start(2)[0] == [2]


def test_servers_that_share_a_module_global_pass_in_one_process_and_fail_isolated(servers: Servers) -> None:
    top = "LEADER = []"
    body = """
        def boot(self): LEADER.append(self.me)
        def GetState(self): return 1, LEADER[0] == self.me
    """
    with servers.here(body, top) as trial, trial.make_config(3) as cfg:
        assert cfg.checkOneLeader() == 0
    with pytest.raises(LabFailure, match=r"term 1 has 3 \(>1\) leaders"), servers.cluster(3, body, top) as cfg:
        cfg.checkOneLeader()


def test_put_returns_when_the_message_was_taken_or_in_its_own_time(servers: Servers) -> None:
    body = """
        def Start(self, command):
            try:
                self.applyCh.put(ApplyMsg(True, command, 1), timeout=0.05)
            except Exception as e:
                return repr(e), 0, False
            return "taken", 0, False
    """
    with servers.cluster(1, body) as cfg:
        with cfg._mu:  # which the applier needs for the first
            assert cfg.rafts[0].Start(1)[0] == "taken"
            assert cfg.rafts[0].Start(1)[0] == "Full()"
        wait_for(lambda: cfg.nCommitted(1) == (1, 1))


def test_what_is_no_apply_msg_is_told_with_its_looks(servers: Servers) -> None:
    message = r"what is put on applyCh must be an ApplyMsg: server 0 put \[7\]"
    with pytest.raises(LabFailure, match=message), servers.cluster(1, EXECUTES) as cfg:
        raise_of(cfg, "self.applyCh.put([7])")


def test_a_snapshot_goes_to_the_server_and_cond_install_is_asked_for_where_there_is_one(servers: Servers) -> None:
    body = """
        def boot(self): self.got = []
        def Snapshot(self, index, snapshot): self.got.append((index, snapshot))
        def GetState(self): return self.got
    """
    with servers.cluster(1, body) as cfg:
        rf: Any = cfg.rafts[0]
        rf.Snapshot(9, b"abc")
        assert rf.GetState() == [(9, b"abc")]
        assert not hasattr(rf, "CondInstallSnapshot")
    with servers.cluster(1, "def CondInstallSnapshot(self, *args): return args") as cfg:
        rf = cfg.rafts[0]
        assert rf.CondInstallSnapshot(1, 2, b"s") == (1, 2, b"s")
        with pytest.raises(AttributeError, match="'Raft' object has no attribute 'Snapshot'"):
            rf.Snapshot(9, b"")


def test_draws_differ_by_server_and_start_and_repeat_with_the_trial(servers: Servers) -> None:
    def draws() -> list[object]:
        body = "def GetState(self): return random.random()"
        with servers.cluster(2, body, top="AT_IMPORT = random.random()") as cfg:
            drawn = [cfg.rafts[i].GetState() for i in (0, 1)]
            cfg.start1(0)
            return [*drawn, cfg.rafts[0].GetState()]

    first = draws()
    assert len(set(first)) == 3
    assert draws() == first


def test_a_solution_is_loaded_though_its_path_is_no_utf8(servers: Servers, launcher: Launcher) -> None:
    servers.folder = servers.folder / os.fsdecode(b"\xff")
    servers.folder.mkdir()
    with servers.cluster(1, "def GetState(self): return ascii(__file__)") as cfg:
        assert "\\udcff/raft.py" in cfg.rafts[0].GetState()


def test_message_classes_are_found_wherever_a_module_has_them(servers: Servers) -> None:
    top = """
        class Outer:
            @dataclass
            class Nested:
                Text: str = ""
        Generated = make_dataclass("Generated", [("Text", str, "generated")])
    """
    body = """
        def Start(self, command):
            @dataclass
            class Local:
                Text: str = ""
            args = Local() if command == "Local" else Outer.Nested(command) if command == "Nested" else Generated()
            return *self.call(args=args), False
    """
    with servers.cluster(2, body, top) as cfg:
        assert cfg.rafts[0].Start("Nested") == (True, "Nested", False)
        assert cfg.rafts[0].Start("Generated") == (True, "generated", False)
    with pytest.raises(LabFailure, match="server 1 cannot find.* define message classes at the top of a module"):
        servers.run(2, body, top, lambda cfg: cfg.rafts[0].Start("Local"))


def test_a_server_has_a_small_environment_and_no_open_file_but_its_own(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "1")
    body = """
        def GetState(self): return sorted(os.environ)
        def Start(self, command):
            there = "/proc/self/fd" if os.path.exists("/proc/self/fd") else "/dev/fd"
            return {fd: os.readlink(f"{there}/{fd}").split(":")[0] for fd in os.listdir(there)[:-1]}, 0, False
    """
    with servers.cluster(2, body) as cfg:
        rf: Any = cfg.rafts[1]
        assert set(rf.GetState()) <= {"PATH", "LANG", "LC_CTYPE"}
        assert rf.Start(1)[0] == {"0": "/dev/null", "1": "socket", "2": "socket", "3": "socket"}


def test_a_launcher_can_put_a_command_before_each_player(servers: Servers) -> None:
    launcher = Launcher(["env", "SANDBOX=1"], env={"PATH": os.environ["PATH"]}, cwd="/")
    body = EXECUTES + "\ndef GetState(self): return os.environ['SANDBOX'], os.getcwd()"
    with servers.cluster(1, body, launcher=launcher) as cfg:
        assert cfg.rafts[0].GetState() == ("1", "/")
    with pytest.raises(Died, match=r"server 0: the process ended \(exit status 3\)"):
        servers.run(1, body, "", lambda cfg: cfg.rafts[0].Start("os._exit(3)"), launcher)


# --- what is wrong with a submission --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("os._exit(3)", r"server 0: the process ended \(exit status 3\)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"server 0: the process ended \(SIGSEGV\)"),
        ("s = socket.socket(fileno=3); s.shutdown(1); time.sleep(60)", "server 0: the process closed its connection"),
        ("raise ValueError('wrong')", r"Start of server 0 raised ValueError: wrong: in <module>, <string>:1"),
        ("os.fork() and os._exit(3) or time.sleep(5)", r"server 0: the process ended \(exit status 3\)"),
        (
            "threading.Thread(target=lambda: 1 / 0, name='ticker').start()",
            r"thread 'ticker' died: ZeroDivisionError: division by zero: server 0, in <lambda>, <string>:1, at \d",
        ),
        (
            "threading.Thread(target=sys.exit, args=(4,), name='ticker').start()",
            r"thread 'ticker' called sys.exit\(4\), which ends the whole program in the lab: server 0",
        ),
        (
            "self.call('Raft.Wrong')",
            r"LabrpcError: labrpc.Service.dispatch\(\): unknown method Wrong in Raft.Wrong; expecting one of \['Echo', 'Fails'\]",
        ),
        (
            "self.call('Raf.Echo')",
            r"LabrpcError: labrpc.Server.dispatch\(\): unknown service Raf in Raf.Echo; expecting one of \['Raft'\]",
        ),
        ("self.call('Echo')", "LabrpcError: labrpc: a method is called by service and name, as in Raft.X, not 'Echo'"),
        ("self.call('Raft.Fails')", r"thread 'RPC handler Raft.Fails' died: KeyError: 'handler': server 1, in Fails, "),
    ],
)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_what_ends_a_server_fails_the_test_in_the_labs_words(servers: Servers, statement: str, message: str) -> None:
    body = EXECUTES + "\ndef Fails(self, args, reply): raise KeyError('handler')"
    with pytest.raises(LabFailure, match=message) as failed, servers.cluster(2, body) as cfg:
        raise_of(cfg, statement)
    if "Error" in message:
        cause = failed.value.__cause__
        assert isinstance(cause, RemoteTraceback)
        assert "Traceback (most recent call last)" in str(cause)
        assert "labrun" not in str(cause)  # the student's lines alone


def test_a_mistake_that_ends_a_thread_is_told_once(servers: Servers) -> None:
    steps = "threading.Thread(target=self.call, args=('Raft.Wrong',)).start()"
    with pytest.raises(LabFailure, match="unknown method Wrong") as failed, servers.cluster(2, EXECUTES) as cfg:
        raise_of(cfg, steps)
    assert sum(str(failed.value) in event for event in cfg._trial.events) == 1


@pytest.mark.parametrize(
    ("top", "body", "error", "message"),
    [
        ("import nothing_of_that_name", "", solution.SolutionError, "cannot load the solution raft.py: ModuleNotFound"),
        ("os._exit(5)", "", Died, r"server 0: the process ended \(exit status 5\)"),
        ("", "def boot(self): raise ValueError('no')", LabFailure, "Make of server 0 raised ValueError: no"),
        ("", "Kill = None", LabFailure, "Make must return a Raft with a method Kill: it returned <solution.Raft"),
    ],
)
def test_a_solution_that_does_not_start(
    servers: Servers, top: str, body: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message), servers.cluster(2, body, top):
        pass


def test_a_server_that_does_not_answer_is_named_with_where_it_stands(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "PATIENCE", 1.0)
    with (
        pytest.raises(Silent, match=r"server 1 did not answer GetState within 1 s: .* in Raft.GetState, .*raft.py:\d+"),
        servers.cluster(2, "def GetState(self): time.sleep(100 * self.me); return 0, False") as cfg,
    ):
        cfg.checkTerms()
    assert any("server 1: labrpc handler: in Raft.GetState, " in event for event in cfg._trial.events)


def test_a_kill_that_does_not_return_fails_the_test(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "PATIENCE", 1.0)
    with (
        pytest.raises(LabFailure, match=r"server 0 did not answer Kill within 1 s: .* in Raft.Kill, "),
        servers.cluster(1, "def Kill(self): time.sleep(100)"),
    ):
        pass


def test_threads_that_go_on_after_kill_are_leaks_with_their_server(servers: Servers) -> None:
    body = """
        def boot(self):
            for _ in range(1 + self.me):
                threading.Thread(target=self.ticker, name=f"ticker of {self.me}").start()
        def ticker(self):
            while True: time.sleep(0.01)
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with servers.cluster(2, body):
            pass
    leaks = sorted(str(w.message) for w in caught if w.category is LeakWarning)
    assert [re.sub(r"/\S*/", "", leak) for leak in leaks] == [
        f"thread 'ticker of {i}' of server {i}{others} still runs 1 s after Kill, in Raft.ticker, raft.py:"
        f"{leaks[i].partition('raft.py:')[2].partition('.')[0]}. Let every loop of a thread look at killed()"
        for i, others in ((0, ""), (1, " (and 1 others)"))
    ]


def test_labgobs_complaints_come_with_the_server_and_the_line(servers: Servers) -> None:
    with pytest.warns(labgob.LabgobWarning, match="labgob error: undeclared field Foo of Args") as caught:
        servers.run(2, EXECUTES, "", lambda cfg: cfg.rafts[0].Start("a = Args(); a.Foo = 1\nself.call(args=a)"))
    assert [re.sub(r"/\S*/", "", w.filename) for w in caught] == ["<server 0: raft.py>"]


def test_printed_lines_show_their_server_and_floods_are_cut(
    servers: Servers, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "PRINTED", 10_000)
    with servers.cluster(2, EXECUTES, top="print('at import')") as cfg:
        for statement in (
            "print('hello')",
            "print('\\udc80 \\x1b', file=sys.stderr)",
            "os.write(1, b'\\xff' + b'x' * 5000)",
        ):
            cfg.rafts[0].Start(statement)
        cfg.rafts[1].Start("for _ in range(10**5): os.write(1, b'flood\\n')")
    printed = capsys.readouterr().out.splitlines()
    assert {"server 0: at import", "server 1: at import", "server 0: hello"} <= set(printed)
    assert "server 0: \\udc80 \\x1b" in printed
    (long,) = (line for line in printed if "xxx" in line)
    assert len(long) < 2100
    assert long.startswith("server 0: \\xffxxx")
    assert sum(len(line) for line in printed) < 40_000
    assert "server 1: (has printed more than 10000 bytes; the rest is left out)" in printed


def test_where_the_threads_of_the_servers_stood_is_noted_when_a_test_fails(servers: Servers) -> None:
    body = """
        def boot(self): threading.Thread(target=self.sleep, daemon=True, name="sleeper").start()
        def sleep(self): time.sleep(0.5)
    """
    with pytest.raises(LabFailure, match="expected one leader"), servers.cluster(2, body) as cfg:
        cfg.fail("expected one leader, got none")
    for i in (0, 1):
        assert any(re.search(rf"server {i}: sleeper: in Raft.sleep, \S*raft.py:\d+", e) for e in cfg._trial.events)


# --- what is worse than wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("os.write(3, b'garbage, and more of it')", r"sent a frame of \d+ bytes: more than \d+ are not taken"),
        ("os.write(3, b'\\0\\0\\0\\1\\xc1')", "sent what is no frame: "),
        ("os.write(3, b'\\0\\0\\0\\0')", "sent what is no frame: "),
        ("send(frames.Done(99, b''))", "sent a Done that answers nothing"),
        ("send(frames.Places(next_id, '', []))", "sent a Places that answers nothing"),
        ("send(frames.Load(0, 0, '', {}, {}))", "sent what is no frame: Invalid value 'Load'"),
        ("send(frames.Call(0, 7, 'Raft.Echo', ('a', 'b'), b'', ('a', 'b')))", "sent a Call to server 7 of 2"),
        (
            "send(frames.Call(0, -1, 'Raft.Echo', ('a', 'b'), b'', ('a', 'b')))",
            "sent what is no frame: Expected `int` >= 0",
        ),
        ("send(frames.Save('text', None))", "sent what is no frame: Expected `bytes`, got `str`"),
        ("send(frames.Save(b'', b'x' * 2_000_000))", "sent what is no frame: Expected `bytes` of length <= "),
        ("send(frames.Died('x' * 3000, False, '', '', ''))", "sent what is no frame: Expected `str` of length <= 2000"),
        ("send(put(b'\\x81'))", "sent a value that labgob does not know: "),
        ("send(put(b'\\x81\\xa5Value' + b'\\x91' * 60000))", "sent a value that labgob does not know: "),
        ("send(put(timeout=float('nan')))", "sent what is no frame: "),
        ("send(frames.Done(next_id, b'x' * 100_000))", "sent an answer without a value, or with one that is too long"),
    ],
)
def test_what_is_no_frame_ends_its_sender_and_says_so(servers: Servers, statement: str, message: str) -> None:
    top = """
        from labrun.isolated import frames
        def put(command=b'\\x80', timeout=None):
            return frames.Put(0, True, timeout, None, True, command, 1, False, None, 0, 0)
    """
    body = """
        def Start(self, command):
            player = connection()
            send, next_id = player.send, max(player._at)
            exec(command, globals() | {"send": send, "next_id": next_id})
            time.sleep(60)
    """
    with (
        pytest.raises(Died, match=f"server 0 ({message}).*; its process was ended"),
        servers.cluster(2, body, top) as cfg,
    ):
        cfg.rafts[0].Start(statement)


@pytest.mark.parametrize(
    ("limit", "statement", "message"),
    [
        (
            "UNDER_WAY",
            "for _ in range(200): threading.Thread(target=self.call, daemon=True, kwargs={'to': 1}).start()",
            "sent too much at once: 50 Calls and messages of 5400 bytes are under way",
        ),
        ("IN_FLIGHT", "self.call(args=Args('x' * 100))", "sent too much at once: 0 Calls and messages of 0 bytes"),
        (
            "APPLIED",
            "for i in range(100): self.applyCh.put(ApplyMsg(True, 7, i + 1))",
            "sent more messages for applyCh than any test has commands",
        ),
    ],
)
def test_a_flood_ends_its_sender(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, limit: str, statement: str, message: str
) -> None:
    monkeypatch.setattr(judge, limit, 50)

    def flood(cfg: Any) -> None:
        cfg.disconnect(1)  # a Call takes its time
        raise_of(cfg, statement)

    with pytest.raises(Died, match=f"server 0 {message}"):
        servers.run(2, EXECUTES, "", flood)


def test_a_flood_of_reports_is_not_looked_at_for_ever(servers: Servers) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with servers.cluster(1, EXECUTES, "from labrun.isolated import frames") as cfg:
            cfg.rafts[0].Start("for i in range(5000): connection().send(frames.Complaint('X', str(i), 'f', i))")
    assert len(caught) == judge.REPORTS


def test_a_server_that_reads_nothing_is_ended(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "PATIENCE", 1.0)
    body = EXECUTES + "\n" + "def Snapshot(self, index, snapshot): pass"

    def stop_and_send(cfg: Any) -> None:
        with contextlib.suppress(Silent):
            cfg.rafts[0].Start("os.kill(os.getpid(), signal.SIGSTOP)")
        cfg.rafts[0].Snapshot(1, b"x" * 3_000_000)

    with pytest.raises(LabFailure, match="server 0 did not read what it was sent for 1 s; its process was ended"):
        servers.run(1, body, "", stop_and_send)


def test_no_process_is_left_whatever_a_server_does_about_its_end(servers: Servers, tmp_path: Path) -> None:
    body = """
        def boot(self):
            open(self.place(), "w").write(str(os.getpid()))
            for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(s, signal.SIG_IGN)
            os._exit = lambda status: time.sleep(60)
        def place(self): return os.path.join(os.path.dirname(__file__), f"pid{self.me}")
    """
    begun = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "LAST_WORDS", 0.5)
        with servers.cluster(2, body):
            pass
    assert time.monotonic() - begun < 10
    for i in range(2):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / f"pid{i}").read_text()), 0)
    assert not [t for t in threading.enumerate() if "server" in t.name or "carrier" in t.name]


@pytest.mark.parametrize("blow", ["SIGKILL", "SIGSTOP"])
def test_who_harms_the_nursery_harms_no_other_trial(servers: Servers, blow: str) -> None:
    own = Launcher()
    with servers.cluster(1, EXECUTES, launcher=own) as cfg:
        assert own._nursery is not None
        own._nursery._socket.settimeout(0.3)
        cfg.rafts[0].Start(f"os.kill(os.getppid(), signal.{blow})")
        cfg.crash1(0)
    with servers.cluster(2, launcher=own) as cfg:
        cfg.checkTerms()
    own.close()


def test_the_judge_executes_nothing_of_the_submission(servers: Servers, tmp_path: Path) -> None:
    top = f"open({str(tmp_path / 'pids')!r}, 'a').write(f'{{os.getpid()}} ')"
    before = set(sys.modules)
    body = "def Start(self, command): return Args('x'), 0, False"
    refused = pytest.raises(LabFailure, match=r"server 0 returned \(Args\(Text='x'\), 0, False\)")
    with servers.cluster(1, body, top) as cfg, refused:
        cfg.rafts[0].Start(1)  # with an object of a class that is not here
    assert os.getpid() not in map(int, (tmp_path / "pids").read_text().split())
    assert "solution" not in set(sys.modules) - before


# --- the machine, the option, the frames ----------------------------------------------------------------------------


def test_a_test_that_fails_while_the_machine_does_not_keep_up_is_not_judged(servers: Servers) -> None:
    def fail(late: list[float]) -> None:
        with servers.cluster(1) as cfg:
            cfg._trial.load.late += late
            cfg.fail("expected one leader, got none")

    with pytest.raises(
        TooBusy, match="too busy to judge; the test ended with: expected one leader, got none: timers were late by"
    ):
        fail([0.2, 0.3])
    with pytest.raises(LabFailure) as failed:
        fail([0.2])
    assert not isinstance(failed.value, TooBusy)


def test_the_option_excludes_virtual_time_and_is_part_of_what_repeats_a_failure(lab: Lab) -> None:
    refused = lab.run_quick("--isolate", "--sim")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["*--isolate runs in real time: give it without --sim, --sim-check and --race"])
    source = """
import pytest
pytestmark = getattr(pytest.mark, "2A")

def TestFails2A(make_config):
    with make_config(1) as cfg:
        cfg.fail("it fails")
"""
    failed = lab.run_quick("--isolate", "--seed", "5", source=source)
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(["pytest -m 2A -k TestFails2A --isolate --seed 5"])


def test_a_stream_gives_the_frames_that_were_sent_however_it_is_cut() -> None:
    sent = bytearray()
    frame = frames.Call(1, 0, "Raft.X", ("m", "A"), b"\x00" * 300, ("m", "R"))
    frames.Connection(lambda n: b"", sent.extend, frames.TO_JUDGE).send(frame)
    for piece in (1, 7, 1000):
        stream = iter([bytes((sent * 2)[i : i + piece]) for i in range(0, 2 * len(sent), piece)])
        connection = frames.Connection(lambda n, stream=stream: next(stream, b""), sent.extend, frames.TO_JUDGE)
        assert [connection.receive() for _ in range(3)] == [frame, frame, None]
    half = iter([bytes(sent[:-1])])
    with pytest.raises(frames.FrameError, match="breaks off"):
        frames.Connection(lambda n: next(half, b""), sent.extend, frames.TO_JUDGE).receive()
    with pytest.raises(frames.FrameError, match=r"a Save of 83886\d\d bytes: more than 8388608 cannot be sent"):
        frames.Connection(lambda n: b"", sent.extend, frames.TO_JUDGE).send(frames.Save(b"x" * frames.MAX_FRAME, None))


def test_every_type_of_frame_is_checked_when_it_arrives() -> None:
    for decoder in (frames.TO_JUDGE, frames.TO_PLAYER):
        for frame_type in decoder.type.__args__:
            with pytest.raises(msgspec.MsgspecError):
                decoder.decode(msgspec.msgpack.encode([frame_type.__name__, "x"]))


def test_text_that_is_shown_is_cut_and_escaped() -> None:
    assert frames.shown("a\x1b[31m\udc80\tb\nö") == "a\\x1b[31m\\udc80 b\nö"
    assert frames.shown("x" * 3000) == "x" * 1996 + " ..."
    assert len(frames.shown("\x00" * 3000)) == 2000


SHARING = {
    "the global votes, changed in Raft.GetState": (
        "votes = []",
        "def GetState(self): votes.append(self.me); return 0, False",
    ),
    "the global leader, changed in Raft.GetState": (
        "leader = None",
        "def GetState(self):\n        global leader\n        leader = self.me\n        return 0, False",
    ),
    "Raft.log, changed in Raft.GetState": ("", "log = []\n    def GetState(self): self.log.append(1); return 0, False"),
    "Raft.leader, set in Raft.GetState": (
        "",
        "leader = 0\n    def GetState(self): Raft.leader = self.me; return 0, False",
    ),
    "the default of Make's argument log": ("def Make(peers, me, persister, applyCh, log=[]): return Raft(log)", ""),
}


@pytest.mark.parametrize("what", SHARING)
def test_what_servers_share_in_one_process_only_is_named_where_they_fail_isolated(lab: Lab, what: str) -> None:
    top, body = SHARING[what]
    top = top or "def Make(peers, me, persister, applyCh): return Raft([])"
    if "def Make" not in top:
        top += "\ndef Make(peers, me, persister, applyCh): return Raft([])"
    body = body or "def GetState(self): return 0, False"
    lab.solution(
        f"{top}\nclass Raft:\n    def __init__(self, own): self.own = own\n"
        f"    def Start(self, command): return -1, 0, False\n    def Kill(self): pass\n    {body}\n"
    )
    result = lab.run_quick("--isolate", "-k", "Quick", "--raft=raft.py", source=FAILING)
    result.stdout.re_match_lines(
        [r"-* shared by all servers of one process, by none here -*", rf"raft.py:\d+: {what}.*"]
    )


FAILING = """
import pytest
pytestmark = getattr(pytest.mark, "2A")

def TestQuick2A(make_config):
    with make_config(3) as cfg:
        cfg.fail("no leader")
"""


def test_what_each_server_has_of_its_own_is_not_named_as_shared() -> None:
    assert shared(solution.find("raft/raft.py", REPOSITORY)) == []
