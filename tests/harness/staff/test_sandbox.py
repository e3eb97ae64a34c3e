"""From inside a sandbox, everything that a submission must not do is tried by real code, and fails."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from labgrade import sandbox
from labgrade.sandbox import Limits, Sandbox, SandboxError, choose

HOME = Path(sandbox.__file__).parents[1]
TIME = 60.0  # s until something is taken to hang
MEGABYTE = 1_000_000
USUAL = Limits()

# What runs inside; it also has a function that says what kept it from doing something.
INSIDE = """
import ctypes, errno, mmap, os, signal, socket, subprocess, sys, threading, time

def refused(do, *args):
    try:
        result = do(*args)
    except Exception as e:
        print(type(e).__name__)
    else:
        print("DONE", repr(result)[:100])

def main():
    exec(sys.argv[1], globals() | {"args": sys.argv[2:]})
"""


def others_python() -> str:
    """An interpreter that users of their own can run: that of the tests may lie in somebody's home."""
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        folders = [
            Path(python),
            Path(python).resolve(),
            Path(sys.base_prefix) if python == sys.executable else Path("/"),
        ]
        if all(parent.stat().st_mode & 1 for path in folders if path.exists() for parent in path.parents):
            version = subprocess.run(
                [python, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True
            )
            if version.stdout.strip() == b"True":
                return python
    pytest.skip("no Python 3.11 or newer that other users can run")


def can_make_namespaces() -> bool:
    """False for root in a container, who has other users make them."""
    return (
        os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL).returncode == 0
    )


class World:
    """A lab, submissions and secrets, in folders to which all users can get; and a sandbox."""

    def __init__(self, root: Path, kind: sandbox.Kind, python: str) -> None:
        self.root = root
        self.lab, self.copy, self.other, self.secrets, self.records = (
            root / name for name in ("lab", "copy", "other", "secrets", "records")
        )
        for folder in (
            self.lab / "raft" / "__pycache__",
            self.lab / "gallery",
            self.copy,
            self.other,
            self.secrets,
            self.records,
        ):
            folder.mkdir(parents=True)
        for folder in (root, *root.rglob("*")):
            folder.chmod(0o777 if folder == self.secrets else 0o755)
        (self.lab / "inside.py").write_text(INSIDE)
        (self.lab / "raft" / "__init__.py").write_text("")
        for file in ("raft/raft.py", "raft/__pycache__/raft.cpython-399.pyc", "raft/api.py", "gallery/broken.py"):
            (self.lab / file).write_text("SOLUTION = 1\n")
        for folder in (self.copy, self.other, self.secrets):
            (folder / "raft.py").write_text("x = 'text'\n")
        (self.copy / "queue.py").write_text("raise SystemExit('shadowed')")
        self.sandbox = choose(
            kind,
            readable=[self.lab],
            hidden=[self.lab / "raft" / "raft.py", self.lab / "gallery", self.lab / "nothing"],
            path=[self.lab],
            python=python,
        )

    def start(self, code: str, *args: object, limits: Limits = USUAL, **options: object) -> sandbox.Process:
        text = textwrap.dedent(code)
        return self.sandbox.start(
            "inside:main",
            [text, *map(str, args)],
            copy=self.copy,
            limits=limits,
            **options,  # type: ignore[arg-type]
        )

    def run(self, code: str, *args: object, limits: Limits = USUAL, **options: object) -> str:
        """What the code prints. It ends well."""
        status, output = self.end(code, *args, limits=limits, **options)
        assert status == 0, output
        return output

    def end(self, code: str, *args: object, limits: Limits = USUAL, **options: object) -> tuple[int | None, str]:
        """How it ends, and what it prints."""
        with tempfile.TemporaryFile() as output:
            with self.start(code, *args, limits=limits, stdout=output, stderr=output, **options) as process:
                status = process.wait(TIME)
            output.seek(0)
            return status, output.read().decode(errors="replace")


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lab-", dir="/var/tmp") as folder:  # in /tmp, each has its own
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture(params=["bwrap", "user"])
def world(request: pytest.FixtureRequest, root: Path) -> World:
    if request.param == "user" and os.geteuid() != 0:
        pytest.skip("only root can give users of their own")
    python = others_python() if request.param == "user" or not can_make_namespaces() else sys.executable
    try:
        return World(root, request.param, python)
    except SandboxError as e:
        pytest.skip(str(e))


@pytest.fixture
def confined(world: World) -> World:
    """A sandbox that also hides files, as all do but `user` without Landlock."""
    if world.sandbox.kind == "user" and not world.sandbox.landlock:
        pytest.skip("this kernel has no Landlock")
    return world


def ended(pipe: int) -> bool:
    """Whether everybody who holds the other end of a pipe ends within the time."""
    return bool(select.select([pipe], [], [], TIME)[0]) and os.read(pipe, 1) == b""


@contextlib.contextmanager
def a_pipe() -> Iterator[tuple[int, IO[bytes]]]:
    """The end to read from, and the other one, which can be closed before."""
    ours, theirs = os.pipe()
    with open(ours, "rb", buffering=0), open(theirs, "wb", buffering=0) as end:
        yield ours, end


# -- what it has -----------------------------------------------------------------------------------------------------


def test_it_runs_in_its_copy_and_can_read_it_and_the_lab(world: World) -> None:
    code = """
        import raft.api
        print(os.getcwd(), open("raft.py").read().strip(), raft.api.SOLUTION, args)
    """
    assert world.run(code, "a b", "é") == f"{world.copy} x = 'text' 1 ['a b', 'é']\n"


def test_no_file_of_a_submission_hides_a_module(world: World) -> None:
    assert "shadowed" not in world.run("import queue; print(queue.Queue)")


def test_its_environment_is_small_and_none_of_the_graders(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADERS_SECRET", "1")
    names = set(eval(world.run("print(list(os.environ))")))
    assert names <= {
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "MALLOC_ARENA_MAX",
        "PYTHONPATH",
        "PYTHONUNBUFFERED",
        "PWD",
        "LC_CTYPE",
    }


def test_it_can_write_in_its_tmp_and_nobody_sees_it_there(world: World) -> None:
    where = world.run("""
        import tempfile
        path = os.path.join(tempfile.gettempdir(), "mine")
        open(path, "w").write("x")
        assert os.path.expanduser("~/mine") == path
        print(path)
    """)
    assert not Path(where.strip()).exists()


def test_a_socket_that_it_inherits_works_both_ways_and_nothing_else_is_open(world: World) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, open(os.devnull) as unnamed:
        os.set_inheritable(unnamed.fileno(), True)
        code = """
            with socket.socket(fileno=int(args[0])) as s:
                for fd in range(3, 200):
                    try:
                        os.fstat(fd)
                    except OSError:
                        continue
                    s.sendall(f"{fd} ".encode())
                s.sendall(s.recv(100))
        """
        ours.settimeout(TIME)
        with world.start(code, theirs.fileno(), pass_fds=[theirs.fileno()]) as process:
            ours.sendall(b"hello")
            assert process.wait(TIME) == 0
        assert ours.recv(1000).decode() == f"{theirs.fileno()} hello"


def test_it_writes_into_the_folder_that_it_was_given(world: World) -> None:
    world.run("open(args[0] + '/results', 'w').write('record')", world.records, writable=world.records)
    assert (world.records / "results").read_text() == "record"
    assert world.records.stat().st_uid == os.geteuid()
    if os.geteuid() == 0:
        assert (world.records / "results").stat().st_uid in sandbox.USERS


# -- what it must not do ---------------------------------------------------------------------------------------------


def test_it_cannot_read_the_graders_files_other_submissions_or_solutions(confined: World) -> None:
    files = [
        *(folder / "raft.py" for folder in (confined.secrets, confined.other)),
        confined.lab / "gallery" / "broken.py",
        Path("/etc/passwd"),
        Path("/proc/1/environ"),
        Path(f"/proc/{os.getpid()}/environ"),
        Path(f"/proc/{os.getpid()}/cmdline"),
        HOME / "labgrade" / "sandbox.py",
    ]
    for line in confined.run("for name in args: refused(lambda: open(name, 'rb').read())", *files).splitlines():
        assert line in ("FileNotFoundError", "PermissionError")
    code = """
        for name in args:
            try:
                print("text" if b"SOLUTION" in open(name, "rb").read() else "empty")
            except OSError:
                print("empty")
        import raft.api
        try:
            import raft.raft
            assert not hasattr(raft.raft, "SOLUTION")
        except (ImportError, PermissionError):
            pass
    """
    raft = confined.lab / "raft"
    assert confined.run(code, raft / "raft.py", raft / "__pycache__" / "raft.cpython-399.pyc") == "empty\nempty\n"


def test_it_cannot_write_outside_its_tmp(confined: World) -> None:
    folders = [confined.copy, confined.secrets, confined.other, confined.lab, confined.records, confined.root]
    folders += [Path("/"), Path("/dev/shm"), Path("/var/tmp"), Path("/etc"), Path("/usr"), Path(sys.prefix), HOME]
    code = """
        for name in args:
            refused(lambda: open(name + "/evil", "w"))
            refused(lambda: os.mkdir(name + "/evil.d"))
            refused(lambda: os.rename(name + "/raft.py", name + "/gone.py"))
            refused(lambda: os.remove(name + "/raft.py"))
    """
    lines = confined.run(code, *folders).splitlines()
    assert len(lines) == 4 * len(folders)
    assert not [line for line in lines if line.startswith("DONE")]
    assert not [f for f in folders if (f / "evil").exists() or (f / "evil.d").exists() or (f / "gone.py").exists()]


def test_the_graders_folders_cannot_be_written_even_without_landlock(root: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give users of their own")
    world = World(root, "user", others_python())
    world.sandbox.landlock = False
    code = "for name in args: refused(lambda: open(name + '/evil', 'w'))"
    for line in world.run(code, world.copy, world.other, world.lab, world.records, "/", "/usr").splitlines():
        assert line == "PermissionError"


def test_it_cannot_see_or_signal_its_parent_or_a_neighbour(world: World) -> None:
    with a_pipe() as (ours, theirs), world.start("print(flush=True); time.sleep(600)", stdout=theirs) as neighbour:
        assert os.read(ours, 1) == b"\n"
        assert neighbour._popen is not None
        targets = [
            os.getpid(),
            os.getppid(),
            1,
            neighbour._popen.pid,
            *([neighbour._first] if neighbour._first else []),
        ]
        code = """
            libc = ctypes.CDLL(None, use_errno=True)
            def ptrace(pid):
                if libc.ptrace(16, pid, 0, 0) < 0:
                    raise OSError(ctypes.get_errno(), "ptrace")
            mine = {os.getpid(), os.getppid()} if os.getpid() < 10 else set()  # in a namespace the numbers are its own
            for pid in map(int, args):
                if pid not in mine:
                    refused(os.kill, pid, 9)
                    refused(ptrace, pid)
                    refused(os.sched_setaffinity, pid, {0})
            try:
                os.kill(-1, signal.SIGKILL)
            except OSError:
                pass
        """
        status, output = world.end(code, *targets)
        assert status in (0, -signal.SIGKILL)
        assert output
        assert "DONE" not in output
        assert neighbour.wait(0) is None


def test_it_cannot_open_a_connection(world: World) -> None:
    name = f"\0lab-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(name)
        unix.listen()
        code = """
            refused(lambda: socket.create_connection(("127.0.0.1", int(args[0])), 5))
            refused(lambda: socket.create_connection(("192.0.2.1", 80), 5))
            refused(lambda: socket.socket(socket.AF_UNIX).connect("\\0" + args[1]))
            refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)))
        """
        lines = world.run(code, tcp.getsockname()[1], name[1:]).splitlines()
        assert len(lines) == 4
        assert not [line for line in lines if line.startswith("DONE")]
        for listener in (tcp, unix):
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()


def test_two_processes_of_one_submission_share_no_memory(world: World) -> None:
    shm = """
        libc = ctypes.CDLL(None, use_errno=True)
        print(libc.shmget(0x1ab, 4096, {flags}), flush=True)
    """
    with a_pipe() as (ours, theirs):
        holder = textwrap.dedent(shm).format(flags=0o1666) + "time.sleep(600)"
        with world.start(holder, stdout=theirs):
            os.read(ours, 10)
            assert world.run(textwrap.dedent(shm).format(flags=0o666)) == "-1\n"


def test_each_process_of_a_root_grader_is_another_user_without_groups_or_rights(world: World) -> None:
    if os.geteuid() != 0:
        pytest.skip("the grader is not root")
    code = "print(os.getresuid(), os.getresgid(), os.getgroups()); refused(os.setuid, 0)"
    with a_pipe() as (ours, theirs), world.start(f"{code}; time.sleep(600)", stdout=theirs):
        one = ""
        while one.count("\n") < 2:
            one += os.read(ours, 1000).decode()
        two = world.run(code)
    found = [eval(text.splitlines()[0].replace(") (", "), (").replace(") [", "), [")) for text in (one, two)]
    for uids, gids, groups in found:
        assert uids[0] in sandbox.USERS
        assert len({*uids, *gids}) == 1
        assert set(groups) <= set(gids)
    assert found[0] != found[1]
    assert "DONE" not in two


# -- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "start = lambda: os.fork() or time.sleep(600)",
        "start = lambda: threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
    ],
    ids=["processes", "threads"],
)
def test_processes_and_threads_are_limited(world: World, code: str) -> None:
    if "RLIMIT_NPROC" not in world.sandbox._resources(Limits()):
        pytest.skip("this kernel cannot count the processes of one sandbox")
    code += """
for n in range(100):
    try:
        start()
    except (OSError, RuntimeError):
        break
print(n, flush=True)
os._exit(0)
"""
    assert 1 < int(world.run(code, limits=Limits(processes=20))) < 20


@pytest.mark.parametrize("take", ["bytearray(400_000_000)", "mmap.mmap(-1, 400_000_000)", "[bytes(10_000)] * 10**8"])
def test_memory_is_limited(world: World, take: str) -> None:
    assert world.run(f"refused(lambda: {take})", limits=Limits(memory=50 * MEGABYTE)) in ("MemoryError\n", "OSError\n")
    assert world.run(f"refused(lambda: {take.replace('400_', '4_').replace('10**8', '10')})").startswith("DONE")


def test_the_size_of_files_and_how_many_are_open_is_limited(world: World) -> None:
    code = """
        import tempfile
        def write(size):
            with open(os.path.join(tempfile.gettempdir(), "big"), "wb") as file:
                for _ in range(size):
                    file.write(bytes(1_000_000))
        refused(write, 1)
        refused(write, 10)
        refused(lambda: [os.open("/dev/null", os.O_RDONLY) for _ in range(50)])
    """
    output = world.run(code, limits=Limits(file_size=5 * MEGABYTE, files=30))
    assert output.splitlines() == ["DONE None", "OSError", "OSError"]


def test_processor_time_is_limited(world: World) -> None:
    status, _ = world.end("while True: pass", limits=Limits(seconds=1))
    assert status == -signal.SIGXCPU


def test_what_it_takes_can_be_watched(world: World) -> None:
    with a_pipe() as (ours, theirs):
        code = """
            held = b"x" * 60_000_000
            while time.process_time() < 0.3:
                pass
            print(flush=True)
            time.sleep(600)
        """
        with world.start(code, stdout=theirs) as process:
            os.read(ours, 1)
            usage = process.usage()
        assert usage.seconds >= 0.25
        assert 60 * MEGABYTE < usage.memory < 400 * MEGABYTE
        assert process.usage() == sandbox.Usage(0, 0)


# -- the end ---------------------------------------------------------------------------------------------------------

DAEMON = """
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(int(args[0]), b"x")
            time.sleep(600)
        os._exit(0)
    time.sleep(600)
"""


def test_kill_ends_everything_that_it_has_started(world: World) -> None:
    with a_pipe() as (ours, theirs):
        with world.start(DAEMON, theirs.fileno(), pass_fds=[theirs.fileno()]) as process:
            theirs.close()
            assert os.read(ours, 1) == b"x"
            assert process.status is None
        assert ended(ours)


def test_it_ends_with_its_parent_however_that_dies(world: World) -> None:
    with a_pipe() as (ours, theirs):
        end = theirs.fileno()
        code = f"""
            import os, sys, time
            from pathlib import Path
            from labgrade.sandbox import choose
            lab = Path({str(world.lab)!r})
            box = choose({world.sandbox.kind!r}, readable=[lab], path=[lab], python={world.sandbox._python.executable!r})
            inside = "os.write(int(args[0]), b'x'); time.sleep(600)"
            process = box.start("inside:main", [inside, "{end}"], copy=None, pass_fds=[{end}])
            os.close({end})
            time.sleep(600)
        """
        grader = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            pass_fds=[end],
            cwd=HOME,
            env={**os.environ, "TMPDIR": str(world.root)},
        )
        theirs.close()
        try:
            assert os.read(ours, 1) == b"x"
        finally:
            grader.kill()
            grader.wait()
        assert ended(ours)


def test_a_process_that_outlasts_its_time_is_told_apart_and_signals_too(world: World) -> None:
    with world.start("time.sleep(600)") as process:
        assert process.wait(0.01) is None
    assert world.end("os.abort()")[0] == -signal.SIGABRT
    assert world.end("sys.exit(3)")[0] == 3


def test_users_are_given_back_and_a_folder_again_the_graders(world: World) -> None:
    if os.geteuid() != 0:
        pytest.skip("the grader is not root")
    process = world.start("time.sleep(600)", writable=world.records)
    assert world.records.stat().st_uid in sandbox.USERS
    process.kill()
    process.kill()
    assert world.records.stat().st_uid == 0
    assert len(world.sandbox._users._free) == len({user.id for user in world.sandbox._users._free})


# -- what is chosen --------------------------------------------------------------------------------------------------


def test_auto_says_what_it_chose_and_why_not_something_stronger(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    if os.geteuid() == 0:
        chosen = choose("auto", readable=[], python=others_python())
        assert chosen.line.startswith("sandbox user: each process of a submission is a user of its own")
    else:
        chosen = choose("auto", readable=[])
        assert chosen.line.startswith("sandbox none: a submission can read and change whatever you can; ")
    assert "bwrap does not work here (it is not installed: its package is called bubblewrap)" in chosen.line


def test_none_is_refused_for_root_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(Sandbox, "probe", lambda self: "it is forbidden")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SandboxError, match=r"all the rights of root: bwrap .*; users .*forbidden.*--sandbox none"):
        choose("auto", readable=[])
    assert choose("none", readable=[]).line == "sandbox none: a submission can read and change whatever you can"


def test_what_is_asked_for_by_name_and_does_not_work_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SandboxError, match=r"--sandbox user: .*only root can give them"):
        choose("user", readable=[])
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SandboxError, match=r"--sandbox bwrap: .*package is called bubblewrap"):
        choose("bwrap", readable=[])


def test_a_probe_that_fails_says_what_bubblewrap_says(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = root / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(root), prepend=os.pathsep)
    with pytest.raises(SandboxError, match="bwrap does not work here .bwrap: No permissions to create new namespace"):
        choose("bwrap", readable=[])


def test_a_copy_in_a_closed_folder_says_what_to_open(root: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give users of their own")
    world = World(root, "user", others_python())
    closed = root / "closed"
    (closed / "copy").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(SandboxError, match=f"{closed} is closed to other users.*chmod o.x {closed}"):
        world.sandbox.start("sys:exit", copy=closed / "copy")


def test_without_a_sandbox_limits_and_flags_hold_all_the_same(root: Path) -> None:
    world = World(root, "none", sys.executable)
    assert "shadowed" not in world.run("import queue; print(queue.Queue)")
    assert world.run("refused(bytearray, 400_000_000)", limits=Limits(memory=50 * MEGABYTE)) == "MemoryError\n"
    with a_pipe() as (ours, theirs):
        with world.start("os.write(int(args[0]), b'x'); time.sleep(600)", theirs.fileno(), pass_fds=[theirs.fileno()]):
            theirs.close()
            assert os.read(ours, 1) == b"x"
        assert ended(ours)


def test_a_grader_without_descriptors_or_processes_left_gets_the_systems_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", fail)
    with pytest.raises(OSError, match="Resource temporarily"):
        world.start("pass")
