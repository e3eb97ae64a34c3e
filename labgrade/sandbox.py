"""Where a submission runs: processes that see Python, the lab and one submission, and reach nobody.

`choose(kind, ...)` finds out what is possible here, and gives a Sandbox; `Sandbox.line` says in one line what was
chosen and what that means. The kinds, from the strongest:

- `bwrap`: bubblewrap. Namespaces of its own for processes, network, IPC, host name and, unless the grader is root,
  users; of the files only what is listed, read-only; a private tmpfs as /tmp and home; no /proc. As root, each process
  is a user of its own besides.
- `user`, for root only: each process is a user of its own, who can write nothing of the grader's and signal nobody
  else. Where the kernel has Landlock, it reads only the files that are listed, as with bwrap (without, whatever all
  users may read, and it can write in /tmp); where it has seccomp, it opens no socket.
- `none`: the rights of the grader; what leaves the session outlasts its Process. Refused for root unless asked for by
  name.
- `auto`: the first of them of which a probe run works.

In all of them a process has a small fixed environment, the file descriptors that it was given and no others, a session
of its own and the limits of Limits. It ends with its Process, or with the thread that started it, whatever comes first.
(The thread, as the system has it so: start processes in threads that last.) Python runs with `-P -s`: neither the
folder in which it starts nor a user's packages are on its path, so that no `queue.py` of a submission hides Python's
own; and with `-B`, as there is nowhere to write bytecode.

What is not bounded: how many files a process writes into a folder that it was given for writing (a pipe is better; what
is read from such a folder must be opened without following links), and memory in files without a name (memfd): watch
Process.usage for what it takes in all.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

__all__ = ["Kind", "Limits", "Process", "Sandbox", "SandboxError", "Usage", "choose"]

Kind = Literal["auto", "bwrap", "user", "none"]

MEGABYTE = 1_000_000
USERS = range(60706, 61184)  # which systemd's list of users has as unused, and containers have, too
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/nix/store", "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
PROBE = 20.0  # s until a probe run is given up
OVERHEAD = 256 * MEGABYTE  # of address space: what Python and its libraries map without using it
CONFINE = Path(__file__).with_name("confine.py")


class SandboxError(Exception):
    """There is no such sandbox here: one message that says why, and what to do."""


@dataclass(frozen=True)
class Limits:
    """What a process may take."""

    memory: int = 1024 * MEGABYTE  # bytes of address space, besides OVERHEAD, of each process
    processes: int = 512  # processes and threads, in all. Not with `none`, where all of the grader's would count
    files: int = 256  # open at once, of each process
    file_size: int = 64 * MEGABYTE  # bytes of each file; with bwrap also of all in /tmp
    seconds: int = 600  # of processor time, of each process


@dataclass(frozen=True)
class Usage:
    """What a process takes, with all that it has started."""

    seconds: float  # of processor time so far
    memory: int  # bytes that are in memory now


@dataclass
class _User:
    """A user for one process at a time. The socket's name keeps other graders on this machine from using it, too."""

    id: int
    lock: socket.socket


class _Users:
    """Gives each process a user of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[_User] = []
        self._unused = iter(USERS)

    def take(self) -> _User:
        with self._lock:
            if self._free:
                return self._free.pop(0)
            for number in self._unused:
                lock = socket.socket(socket.AF_UNIX)
                try:
                    lock.bind(f"\0raft-lab user {number}")
                except OSError:
                    lock.close()
                else:
                    return _User(number, lock)
        raise SandboxError(f"all {len(USERS)} users for submissions are taken: run fewer processes at once")

    def give_back(self, user: _User) -> None:
        with self._lock:
            self._free.append(user)


@dataclass(frozen=True)
class _Python:
    """The interpreter for submissions."""

    executable: str
    folders: tuple[str, ...]  # what it needs

    @classmethod
    def of(cls, executable: str) -> _Python:
        show = "import sys; print(sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, sep='\\n')"
        try:
            found = subprocess.run(
                [executable, "-I", "-c", show], capture_output=True, text=True, timeout=PROBE, check=True
            )
        except (OSError, subprocess.SubprocessError) as e:
            raise SandboxError(f"the interpreter {executable} does not run: {e}") from None
        return cls(executable, tuple(dict.fromkeys(found.stdout.splitlines())))


class Sandbox:
    """Starts processes that run a submission. `choose` makes one; it can be used from several threads at once."""

    def __init__(
        self,
        kind: Literal["bwrap", "user", "none"],
        python: str,
        readable: Sequence[Path],
        hidden: Sequence[Path],
        path: Sequence[Path],
    ) -> None:
        self.kind = kind
        self.line = f"sandbox {kind}"  # what it means for the grader
        self._python = _Python.of(python)
        self._made_of = kind, python, list(readable), list(hidden), list(path)
        self._seen = [*SYSTEM, *self._python.folders, *(str(path.absolute()) for path in readable)]
        self._hidden = [found for path in hidden for found in _with_bytecode(path.absolute())]
        self._path = os.pathsep.join(str(folder.absolute()) for folder in path)
        self._users = _Users()
        # What is used; where it does not work, `choose` tries without:
        self.own_user = kind == "user" or (kind == "bwrap" and os.geteuid() == 0)
        self.user_namespace = kind == "bwrap" and not self.own_user
        self.landlock = self.seccomp = kind == "user"
        self._visible, self._listed = _without(self._seen, self._hidden) if kind == "user" else ([], [])
        self._confine = CONFINE.read_text(encoding="utf-8")

    def described(self) -> dict[str, Any]:
        """What another process needs to have the same sandbox, without a probe: for `of`."""
        kind, python, *paths = self._made_of
        readable, hidden, path = ([str(p.absolute()) for p in some] for some in paths)
        found = {"user_namespace": self.user_namespace, "landlock": self.landlock, "seccomp": self.seccomp}
        return {"made_of": [kind, python, readable, hidden, path], "found": found}

    @classmethod
    def of(cls, described: dict[str, Any]) -> Self:
        kind, python, *paths = described["made_of"]
        sandbox = cls(kind, python, *([Path(p) for p in some] for some in paths))
        for name, value in described["found"].items():
            setattr(sandbox, name, value)
        return sandbox

    def start(
        self,
        target: str,
        arguments: Sequence[str] = (),
        *,
        copy: Path | None,
        limits: Limits = Limits(),
        writable: Path | None = None,
        pass_fds: Sequence[int] = (),
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
    ) -> Process:
        """Run the Python function `target` ("pytest:main") in a process, with sys.argv[1:] = `arguments`.

        It starts in the folder `copy`, the submission's, which it can read; `writable` is a folder of the caller's in
        which it may write, and nobody but it and root until it has ended; `pass_fds` stay open in it, with the numbers
        they have. Raises SandboxError if its user cannot get to `copy` or `writable`, OSError if no process can start.
        """
        copy, writable = (path and path.absolute() for path in (copy, writable))
        process = Process(self._users, self._users.take() if self.own_user else None, writable)
        try:
            if self.kind != "bwrap":
                process.make_scratch()
            if process.user and writable:
                os.chown(writable, process.user.id, process.user.id)
            python = self._command(process, target, arguments, copy, limits)
            home = str(process.scratch or "/tmp")
            environment = {
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": home,
                "TMPDIR": home,
                "LANG": "C.UTF-8",
                "PYTHONUNBUFFERED": "1",  # what is killed has said what it has said
                **({"PYTHONPATH": self._path} if self._path else {}),
                "MALLOC_ARENA_MAX": "2",  # else each thread reserves 64 MB, which the limit of memory counts
            }
            options: dict[str, Any] = {"env": environment, "stdout": stdout, "stderr": stderr}
            if process.user and self._begins_as_user():
                _check_way(copy)
                _check_way(writable)
                options |= {"user": process.user.id, "group": process.user.id, "extra_groups": []}
            if self.kind == "bwrap":
                process.begin_in_bwrap(self._bwrap(copy, writable, limits), python, pass_fds, cwd="/", **options)
            else:
                process.begin(python, pass_fds, cwd=copy or "/", **options)
        except BaseException:
            process.kill()
            raise
        return process

    def check(self, writable: Path) -> None:
        """Raises SandboxError if its users cannot get to what lies in a folder."""
        if self.own_user and self._begins_as_user():
            _check_way(writable)
            _check_folder(writable, writable)

    def _begins_as_user(self) -> bool:
        """Whether what is started is another user's from the beginning, and not only when it is confined."""
        return self.own_user and (self.kind == "user" or self.user_namespace)

    def _command(
        self, process: Process, target: str, arguments: Sequence[str], copy: Path | None, limits: Limits
    ) -> list[str]:
        """Python, with labgrade.confine and what it is to do."""
        confine: dict[str, object] = {"limits": self._resources(limits)}
        if self.kind == "bwrap":
            if process.user and not self.user_namespace:
                confine["user"] = (process.user.id, process.user.id)
        else:
            confine["parent"] = os.getpid() if sys.platform == "linux" else 0
            confine["calls"] = self.seccomp
            if self.landlock:
                own = [str(path) for path in (process.scratch, process.writable) if path]
                read = [*self._visible, *DEVICES, *([str(copy)] if copy else [])]
                confine["files"] = (read, self._listed, [*own, "/dev/null"])
        text = f"{self._confine}\n\nenter({target!r}, {list(arguments)!r}, **{confine!r})\n"
        return [self._python.executable, "-P", "-s", "-B", "-c", text]

    def _resources(self, limits: Limits) -> dict[str, int]:
        found = {
            "RLIMIT_AS": limits.memory + OVERHEAD,
            "RLIMIT_CORE": 0,
            "RLIMIT_CPU": limits.seconds,
            "RLIMIT_FSIZE": limits.file_size,
            "RLIMIT_NOFILE": limits.files,
        }
        # It counts all of a user's, but those of each user namespace apart since Linux 5.14
        if self.own_user or (self.user_namespace and _kernel() >= (5, 14)):
            found["RLIMIT_NPROC"] = limits.processes
        return found

    def _bwrap(self, copy: Path | None, writable: Path | None, limits: Limits) -> list[str]:
        options = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
        if self.user_namespace:
            options.append("--unshare-user")
        elif self.own_user:
            options += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]  # labgrade.confine gives them away
        options += ["--hostname", "lab", "--die-with-parent"]
        options += ["--perms", "1777", "--size", str(limits.file_size), "--tmpfs", "/tmp"]
        shown = [*self._seen, *DEVICES, *(str(path) for path in (copy, writable) if path)]
        folders = {str(folder) for path in shown for folder in Path(path).parents} - {"/", "/tmp"}
        for path in sorted(folders):
            options += ["--dir", path]  # else bubblewrap makes it with rights for root alone
        for path in self._seen:
            options += ["--ro-bind-try", path, path]
        for path in DEVICES:
            options += ["--dev-bind", path, path]
        for path in self._hidden:
            if os.path.exists(path) and any(Path(path).is_relative_to(seen) for seen in self._seen):
                empty = ["--tmpfs", path, "--remount-ro", path]
                options += empty if os.path.isdir(path) else ["--ro-bind", "/dev/null", path]
        if copy:
            options += ["--ro-bind", str(copy), str(copy)]
        if writable:
            options += ["--bind", str(writable), str(writable)]
        return [shutil.which("bwrap") or "bwrap", *options, "--remount-ro", "/", "--chdir", str(copy or "/")]

    def probe(self) -> str:
        """Run a process that does nothing: what went wrong, or ""."""
        try:
            for path in self._seen if self._begins_as_user() else ():
                _check_way(Path(path))
            with tempfile.TemporaryFile() as output:
                with self.start("sys:exit", copy=None, stdout=output, stderr=output) as process:
                    status = process.wait(PROBE)
                output.seek(0)
                said = output.read(10_000).decode(errors="replace").strip().rpartition("\n")[2]
        except (OSError, SandboxError) as e:
            return str(e)
        return "" if status == 0 else said or f"a probe run ended with status {status}"


class Process:
    """A process of a submission, with all that it starts. As a context manager, it kills them in the end."""

    def __init__(self, users: _Users, user: _User | None, writable: Path | None) -> None:
        self.user = user
        self.writable = writable
        self.scratch: Path | None = None  # its /tmp and home, where there is no tmpfs for it
        self._users = users
        self._popen: subprocess.Popen[bytes] | None = None
        self._first = 0  # of the processes in bubblewrap's namespace, which end with it
        self._first_ends = -1  # a pidfd
        self._killed = False

    # -- beginning; for Sandbox --

    def make_scratch(self) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="labgrade-"))
        if self.user:
            os.chown(self.scratch, self.user.id, self.user.id)

    def begin(self, command: Sequence[str], pass_fds: Sequence[int], **options: Any) -> None:
        self._popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=pass_fds, start_new_session=True, **options
        )

    def begin_in_bwrap(
        self, bwrap: Sequence[str], python: Sequence[str], pass_fds: Sequence[int], **options: Any
    ) -> None:
        ours, theirs = os.pipe()  # on which bubblewrap says which process is the first
        with open(ours, "rb", buffering=0) as info:
            try:
                command = [bwrap[0], "--info-fd", str(theirs), *bwrap[1:], *python]
                self.begin(command, [*pass_fds, theirs], **options)
            finally:
                os.close(theirs)
            text = b""
            while not text.rstrip().endswith(b"}") and (piece := info.read(1000)):  # it ends early if bwrap has failed
                text += piece
        if found := re.search(rb'"child-pid": (\d+)', text):
            with contextlib.suppress(ProcessLookupError):
                self._first_ends = os.pidfd_open(int(found[1]))
                self._first = int(found[1])

    # -- for everybody --

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    @property
    def status(self) -> int | None:
        """As Popen.returncode: None while it runs, -N after signal N (with bwrap also for exit status 128 + N)."""
        if self._popen is None:
            return None
        status = self._popen.returncode
        if status is None:  # it is waited for when its group has been killed: until then nobody else gets the number
            found = os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return None
            status = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        if self._first and 128 < status < 128 + signal.NSIG:
            return 128 - status
        return status

    @property
    def stdout(self) -> IO[bytes] | None:
        """Where its output comes, if it was started with stdout=PIPE."""
        return self._popen.stdout if self._popen else None

    def wait(self, seconds: float) -> int | None:
        """Its status as soon as it has ended; None if it still runs after so many seconds of real time."""
        if self._popen and self.status is None:
            if sys.platform == "linux":
                ends = os.pidfd_open(self._popen.pid)
                select.select([ends], [], [], seconds)
                os.close(ends)
            else:
                until = time.monotonic() + seconds
                while self.status is None and time.monotonic() < until:
                    time.sleep(0.01)
        return self.status

    def usage(self) -> Usage:
        """What it takes, with what it has started and what of that has been waited for."""
        ticks = pages = 0
        todo = [self._first or self._popen.pid] if self._popen and self.status is None else []
        while todo:
            process = f"/proc/{todo.pop()}"
            try:
                fields = Path(process, "stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))
                pages += int(fields[21])
                for task in os.listdir(f"{process}/task"):
                    todo += map(int, Path(process, "task", task, "children").read_text().split())
            except OSError:  # it has ended meanwhile
                continue
        return Usage(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"))

    def kill(self) -> None:
        """Kill it and all that it has started: none of them does anything any more when this returns."""
        if self._killed:
            return
        self._killed = True
        if self._first_ends >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first_ends, signal.SIGKILL)
            select.select([self._first_ends], [], [], PROBE)
            os.close(self._first_ends)
        if self._popen:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
        if self.user:
            if self._popen and not self._first:  # there may be some that have left the session
                _kill_all_of(self.user.id)
            if self.writable:
                with contextlib.suppress(OSError):
                    os.chown(self.writable, os.geteuid(), os.getegid())
            self._users.give_back(self.user)
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)


def choose(
    kind: Kind,
    *,
    readable: Sequence[Path],
    hidden: Sequence[Path] = (),
    path: Sequence[Path] = (),
    python: str = sys.executable,
) -> Sandbox:
    """The sandbox of this kind, or with "auto" the strongest that works here. Raises SandboxError.

    `readable` are the files and folders that a process sees besides the interpreter's and the submission's: the lab.
    `hidden` are those within them, or within the interpreter's, that it does not see, nor their bytecode: solutions,
    the gallery, what is for staff. `path` comes first where it looks for modules, for a lab that is not installed.
    """
    python = os.path.abspath(python)  # a path by way of `..` may lead through a folder that the sandbox lacks
    root = os.geteuid() == 0
    why = []
    if kind in ("auto", "bwrap"):
        sandbox, trouble = _try_bwrap(python, readable, hidden, path)
        if not trouble:
            who = "a user of its own" if sandbox.own_user else "your user in a namespace of its own"
            sandbox.line += f": each process of a submission is {who}, and sees Python, the lab and itself; no network"
            return sandbox
        why.append(f"bwrap does not work here ({trouble})")
    if kind in ("auto", "user"):
        sandbox, trouble = _try_user(python, readable, hidden, path)
        if not trouble:
            files = "sees Python, the lab and itself" if sandbox.landlock else "reads what all can, and writes in /tmp"
            network = "no network" if sandbox.seccomp else "it has the network"
            sandbox.line += f": each process of a submission is a user of its own, and {files}; {network}"
            sandbox.line += "".join(f"; {reason}" for reason in why)
            return sandbox
        why.append(f"users of their own do not work here ({trouble})")
    if kind == "auto" and root:
        raise SandboxError(
            f"there is no sandbox, and a submission would have all the rights of root: {'; '.join(why)}. Mend one of "
            "these, grade as another user, or say --sandbox none"
        )
    if kind in ("bwrap", "user"):
        raise SandboxError(f"--sandbox {kind}: {'; '.join(why)}")
    sandbox = Sandbox("none", python, readable, hidden, path)
    sandbox.line += ": a submission can read and change whatever you can" + "".join(f"; {reason}" for reason in why)
    return sandbox


def _try_bwrap(
    python: str, readable: Sequence[Path], hidden: Sequence[Path], path: Sequence[Path]
) -> tuple[Sandbox, str]:
    """The sandbox, and what is wrong with it."""
    sandbox = Sandbox("bwrap", python, readable, hidden, path)
    if not shutil.which("bwrap"):
        return sandbox, "it is not installed: its package is called bubblewrap"
    trouble = sandbox.probe()
    if trouble and sandbox.own_user:  # root in a container: what it may not do, a user may with a namespace of users
        sandbox.user_namespace = True
        second = sandbox.probe()
        trouble = second and f"{trouble}; as another user: {second}"
    return sandbox, trouble


def _try_user(
    python: str, readable: Sequence[Path], hidden: Sequence[Path], path: Sequence[Path]
) -> tuple[Sandbox, str]:
    """The sandbox, and what is wrong with it."""
    sandbox = Sandbox("user", python, readable, hidden, path)
    if os.geteuid() != 0:
        return sandbox, "only root can give them"
    trouble = ""
    for sandbox.landlock, sandbox.seccomp in ((True, True), (False, True), (True, False), (False, False)):
        trouble = sandbox.probe()
        if not trouble:
            break
    return sandbox, trouble


def _with_bytecode(path: Path) -> Iterator[str]:
    """A hidden path, and what its source was compiled to."""
    yield str(path)
    if path.suffix == ".py":
        yield from map(str, path.parent.glob(f"__pycache__/{glob.escape(path.stem)}.*.pyc"))


def _without(paths: Sequence[str], hidden: Sequence[str]) -> tuple[list[str], list[str]]:
    """What makes up `paths` without what is hidden, in pieces as large as possible; and the folders between them."""
    whole, between = [], []
    todo = list(paths)
    while todo:
        path = todo.pop()
        if path in hidden:
            continue
        if any(other.startswith(f"{path.rstrip('/')}/") for other in hidden):
            between.append(path)
            todo += [os.path.join(path, name) for name in os.listdir(path)]
        else:
            whole.append(path)
    return whole, between


def _check_way(path: Path | None) -> None:
    """Raises SandboxError if other users cannot get to a path."""
    for folder in path.absolute().parents if path and path.exists() else ():
        _check_folder(folder, path)


def _check_folder(folder: Path, path: Path | None) -> None:
    if not folder.stat().st_mode & 0o001:
        raise SandboxError(
            f"{folder} is closed to other users, so those of submissions cannot get to {path}: "
            f"chmod o+x {folder}, or keep it elsewhere"
        )


def _kill_all_of(user: int) -> None:
    """All processes of a user: in one system call, so that none can start another one in time."""
    kill = ["/bin/sh", "-c", "kill -9 -1"]
    subprocess.run(kill, cwd="/", user=user, group=user, extra_groups=[], stderr=subprocess.DEVNULL, check=False)
    # They count for the next one with this user until they have been waited for; which in a container may never be.
    until = time.monotonic() + 2
    while user in _users_of_processes() and time.monotonic() < until:
        time.sleep(0.005)


def _users_of_processes() -> set[int]:
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                found.add(os.stat(f"/proc/{name}").st_uid)
    return found


def _kernel() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)
