"""Whatever a submission does, its run ends clearly: never green, never silently empty, never lost.

Each case runs the lab's own TestInitialElection2A in a process of its own, as a student or grader would.
"""

from __future__ import annotations

import pytest

from conftest import Lab

ONE_TEST = ("-m", "2A", "-k", "TestInitialElection2A")
XDIST = pytest.mark.parametrize("xdist", [[], ["-n", "1"]], ids=["here", "in a worker"])


def fails(lab: Lab, *lines: str, args: list[str] | None = None) -> str:
    """Run the lab on raft.py, and match lines of its output in order; the whole output."""
    result = lab.run(*ONE_TEST, "--raft", "raft.py", *(args or []))
    result.assert_outcomes(failed=1, deselected=None)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*{line}*" for line in lines])
    return result.stdout.str()


def test_the_skeleton_fails_with_the_labs_message_at_the_line_of_the_test(lab: Lab) -> None:
    result = lab.run("-m", "2A", "--raft", "raft.skeleton", "-n", "3")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "*--- FAIL: Test*2A (*s)",
            "    expected one leader, got none",
            ">*cfg.checkOneLeader()",
            "E*LabFailure: expected one leader, got none: connected servers said (term, leader) {0: (0, False), *} at * s",
            "*tests/test_2a.py:*: LabFailure",
            "pytest -m 2A -k Test*2A --raft raft.skeleton --seed *",
        ]
    )
    assert "config.py:" not in result.stdout.str()  # the harness's own frames are hidden


def test_a_missing_file_is_refused_before_anything_runs(lab: Lab) -> None:
    result = lab.run("-m", "2A", "--raft", "nowhere/raft.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --raft nowhere/raft.py: there is no file or folder */nowhere/raft.py"])


def test_no_make(lab: Lab) -> None:
    lab.solution("class Raft: pass\ndef make(): pass\n")
    fails(lab, "the solution raft.py offers no Make(peers, me, persister, applyCh); what */raft.py defines: Raft, make")


def test_a_syntax_error(lab: Lab) -> None:
    lab.solution("def Make(:\n")
    fails(lab, "cannot load the solution raft.py: SyntaxError at import", '*File "*/raft.py", line 1', "*def Make(:")


@pytest.mark.parametrize(
    ("statement", "message"),
    [("1 / 0", "ZeroDivisionError"), ("import nowhere", "ModuleNotFoundError"), ("sys.exit(0)", "SystemExit")],
)
def test_an_exception_at_import(lab: Lab, statement: str, message: str) -> None:
    lab.solution(f"import sys\n{statement}\n")
    fails(
        lab, f"cannot load the solution raft.py: {message} at import", '*raft.py", line 2, in <module>', f"*{statement}"
    )


@XDIST
def test_os_exit_at_import(lab: Lab, xdist: list[str]) -> None:
    lab.solution("import os\nos._exit(0)\n")
    fails(lab, "cannot load the solution raft.py: LabFailure at import", "called os._exit(0)", args=xdist)


def test_make_that_raises_shows_the_solutions_own_lines(lab: Lab) -> None:
    lab.solution("def Make(peers, me, persister, applyCh):\n    raise ValueError('no server')\n")
    fails(
        lab,
        ">*make_config(3)*",
        "E *ValueError: no server",
        "raft.py:2: ValueError",
        "pytest -m 2A -k TestInitialElection2A --raft raft.py --seed",
    )


def test_make_with_too_few_parameters(lab: Lab) -> None:
    lab.solution("def Make(peers, me): pass\n")
    fails(lab, "TypeError: Make() takes 2 positional arguments but 4 were given")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("None", "Make must return a Raft with a method GetState: it returned None"),
        ("type('R', (), {'GetState': print, 'Start': print})()", "Make must return a Raft with a method Kill"),
    ],
)
def test_make_that_returns_no_raft(lab: Lab, returned: str, message: str) -> None:
    lab.solution(f"def Make(peers, me, persister, applyCh):\n    return {returned}\n")
    fails(lab, message)


def test_make_that_blocks_ends_by_timeout_with_its_line(lab: Lab) -> None:
    lab.solution("import threading\ndef Make(*args):\n    threading.Event().wait()\n")
    fails(lab, "E *Failed: Timeout (>2.0s) from pytest-timeout.", args=["--timeout", "2"])


def test_getstate_that_deadlocks_ends_by_timeout_and_shows_where(lab: Lab) -> None:
    lab.variant(
        "    def GetState(self):\n        with self.mu:\n            with self.mu:\n                return 0, False\n"
    )
    fails(
        lab,
        ">*with self.mu:",
        "E *Failed: Timeout (>4.0s) from pytest-timeout.",
        "raft.py:*: Failed",
        "the test ends here: Failed; its threads are",
        "server 0 ticker: in Raft.ticker, */raft/raft.py:*",
        "Stack of server * ticker*",
        args=["--timeout", "4"],
    )


def test_getstate_that_returns_something_else(lab: Lab) -> None:
    lab.variant("    def GetState(self):\n        return True\n")
    fails(lab, "GetState must return (currentTerm, isLeader), an int and a bool: server 0: True")


def test_a_handler_that_raises(lab: Lab) -> None:
    lab.variant("    def RequestVote(self, args, reply):\n        raise KeyError('a bug')\n")
    fails(
        lab,
        "raft.py:*: KeyError",
        "The above exception was the direct cause",
        "LabFailure: thread 'RPC handler Raft.RequestVote' died: KeyError: 'a bug': in RequestVote, */raft.py:*",
    )


def test_a_ticker_that_raises_after_a_second(lab: Lab) -> None:
    lab.variant("    def ticker(self):\n        time.sleep(1)\n        self.no_such_attribute\n")
    fails(
        lab,
        "raft.py:*: AttributeError",
        "LabFailure: thread 'server * ticker' died: AttributeError: *no_such_attribute*in ticker, */raft.py:*",
    )


def test_an_rpc_method_misspelt_even_if_the_exception_is_swallowed(lab: Lab) -> None:
    lab.variant(
        "    def askForVote(self, peer, args):\n"
        "        try:\n"
        "            self.peers[peer].Call('Raft.RequestVotes', args, RequestVoteReply())\n"
        "        except Exception:\n"
        "            pass\n"
    )
    fails(
        lab,
        "died: LabrpcError: labrpc.Service.dispatch(): unknown method RequestVotes in Raft.RequestVotes; expecting one of [[]*'RequestVote'*",
    )


def test_a_lock_sent_in_an_rpc(lab: Lab) -> None:
    lab.variant(
        "    def askForVote(self, peer, args):\n"
        "        args.Term = self.mu\n"
        "        self.peers[peer].Call('Raft.RequestVote', args, RequestVoteReply())\n"
    )
    fails(
        lab,
        "raft.py:*",
        "died: LabgobError: labgob: cannot encode raft.raft.RequestVoteArgs: $.Term holds _thread.lock",
    )


def test_what_is_put_on_applych_must_be_an_applymsg(lab: Lab) -> None:
    lab.variant("    def applier(self):\n        self.applyCh.put('done')\n")
    fails(lab, "what is put on applyCh must be an ApplyMsg: server * put 'done'")


EXITS = {
    "os._exit": "os._exit(0)",
    "posix._exit": "import posix; posix._exit(0)",
    "os._exit swallowed": "\n        try: os._exit(0)\n        except BaseException: pass",
    "sys.exit": "sys.exit(0)",
}


@XDIST
@pytest.mark.parametrize("how", EXITS.values(), ids=EXITS)
def test_a_thread_that_ends_the_process(lab: Lab, how: str, xdist: list[str]) -> None:
    lab.variant(f"    def ticker(self):\n        time.sleep(0.2)\n        {how}\n")
    fails(
        lab,
        "exit(0)*which would end the whole run*" if "_exit" in how else "called sys.exit(0), which ends",
        args=xdist,
    )


@XDIST
def test_getstate_that_ends_the_process(lab: Lab, xdist: list[str]) -> None:
    lab.variant("    def GetState(self):\n        sys.exit(0)\n")
    fails(lab, "SystemExit: 0", args=xdist)


@XDIST
def test_a_flood_of_output_is_cut(lab: Lab, xdist: list[str]) -> None:
    lab.variant("    def ticker(self):\n        for i in range(100_000):\n            print(i, 'x' * 50)\n")
    output = fails(lab, "expected one leader, got none", "... * characters left out ...", args=xdist)
    assert len(output) < 100_000


LEAKY = {
    "sleeps": "while True: time.sleep(0.01)",
    "spins": "while True: pass",
    "waits": "threading.Event().wait()",
    "catches": "\n        while True:\n            try: time.sleep(0.01)\n            except SystemExit: pass",
}


@XDIST
@pytest.mark.parametrize("body", LEAKY.values(), ids=LEAKY)
def test_a_thread_that_goes_on_after_kill_is_reported_and_disturbs_nobody(
    lab: Lab, body: str, xdist: list[str]
) -> None:
    lab.variant(
        "    def Kill(self):\n        super().Kill()\n        threading.Thread(target=self.leak, name='leaky').start()\n"
        f"    def leak(self):\n        {body}\n",
        name="mine.py",
    )
    source = """
import threading, time, pytest
pytestmark = getattr(pytest.mark, "2A")

def TestLeaks2A(make_config):
    with make_config(1) as cfg:
        cfg.checkTerms()

def test_time_left_for_others():
    begun, steps = time.monotonic(), 0
    while time.monotonic() < begun + 0.2:
        time.sleep(0.001)
        steps += 1
    assert steps > 50
"""
    result = lab.run_quick("--raft", "mine.py", *xdist, source=source)
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(
        ["*LeakWarning: thread 'leaky' still runs after Kill, in Raft.leak, */mine.py:*. Let every loop*"]
    )
