"""The process that runs one server of the submission, and nothing else. Its stdin is the connection to the judge.

It loads the solution, calls its Make, and serves what the judge asks (labrun.isolated.frames) until it is killed, the
judge closes the connection, or Kill has been called and what is to be said of the threads left has been said. What the
server gets are the classes that it gets elsewhere, each with one thing replaced:

- a ClientEnd encodes and decodes here, and lets the judge carry the bytes;
- a Persister keeps what was saved here to be read, and sends each save to the judge, in the order of the saves;
- an ApplyCh hands over its messages to the judge, and waits for them to be taken.

Message classes are found by module and name, as the solution of both sides of a call is the same: so they must be
defined at the top of a module, or in a class there.

Threads: the main thread loads and makes; one thread reads from the connection and never runs a line of the submission;
whatever else the judge asks runs in a thread of a pool. Anything that an ordinary run would show (exceptions in
threads, warnings, threads that go on after Kill) is told to the judge; what is printed goes to it by stdout and stderr.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import os
import queue
import random
import sys
import threading
import time
import traceback
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TextIO

import msgspec

import labgob
import labrpc
from labrun import solution
from labrun.isolated import frames
from labrun.isolated.declared import declare
from labrun.isolated.frames import box, look, unbox
from labrun.isolated.threads import Awaited, Pool
from labrun.text import MAX_TEXT, shown
from raft.api import ApplyCh, ApplyMsg
from raft.persister import Buffer, Persister

METHODS = ("GetState", "Start", "Snapshot", "CondInstallSnapshot", "Kill")
LEAK_PATIENCE = 1.0  # s after Kill in which no thread ended, until those left are leaks,
LEAK_LIMIT = 3.0  # s, and however many end
NOT_THE_STUDENTS = tuple(os.path.dirname(str(m.__file__)) for m in (threading, labrpc, labgob, frames))
UNUSABLE = 70  # exit status: EX_SOFTWARE of <sysexits.h>


class Player:
    def __init__(self, connection: frames.Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._ids = itertools.count()
        self._waiting: dict[int, Awaited] = {}
        self._pool = Pool("labrpc handler")
        self._for_main: queue.SimpleQueue[frames.Load | frames.Make | None] = queue.SimpleQueue()
        self._at: dict[int, int] = {}  # which thread is at a question of the judge
        self._reader = threading.Thread(target=self._read, name="connection", daemon=True)
        self._context = contextlib.ExitStack()

        self.me = -1
        self._module: types.ModuleType | None = None
        self._root = Path()
        self._rf: Any = None
        self._service: labrpc.Service | None = None
        self._classes: dict[frames.Class, type] = {}
        self._declared: dict[type, frames.Class] = {}
        self._declaring = threading.Lock()
        self._told: BaseException | None = None

    def run(self) -> NoReturn:
        threading.excepthook = self._thread_died
        warnings.showwarning = self._complain
        warnings.simplefilter("default")
        self._reader.start()
        while (question := self._for_main.get()) is not None:
            self._work(self._load if isinstance(question, frames.Load) else self._make, question)
        self._tell_leaks()
        _end(0)

    # --- the connection ---

    def send(self, frame: frames.Frame) -> None:
        try:
            with self._sending:
                self._connection.send(frame)
        except OSError:  # the judge has no use for this server any more
            _end(0)

    def ask(self, question: Callable[[int], frames.Frame]) -> Any:
        """Send a question, given its id, and wait for the answer."""
        awaited = Awaited()
        number = next(self._ids)
        self._waiting[number] = awaited
        self.send(question(number))
        awaited.wait()
        return awaited.answer

    def declare(self, cls: type) -> frames.Class:
        """Tell the judge of a message's class, once and before any message of it; its name."""
        name = self._declared.get(cls)
        if name is None:
            with self._declaring:
                if cls not in self._declared:
                    name = _class_name(cls)
                    self.send(declare(name, cls))
                    self._declared[cls] = name
                name = self._declared[cls]
        return name

    def _read(self) -> None:
        try:
            while (frame := self._connection.receive()) is not None:
                match frame:
                    case frames.Done() | frames.Mistake():
                        self._waiting.pop(frame.id).arrive(frame)
                    case frames.Handle():
                        self._pool.run(functools.partial(self._work, self._handle, frame))
                    case frames.Ask():
                        self._pool.run(functools.partial(self._work, self._answer, frame))
                    case frames.Where():
                        self.send(self._places(frame))
                    case frames.Load() | frames.Make():
                        self._for_main.put(frame)
        except OSError:
            pass  # the judge has closed its end, and not read all of ours
        except BaseException:
            traceback.print_exc()
            _end(UNUSABLE)
        _end(0)

    def _work(self, answer: Callable[[Any], None], question: Any) -> None:
        self._at[question.id] = threading.get_ident()
        try:
            answer(question)
        finally:
            self._at.pop(question.id)

    # --- what the judge asks ---

    def _load(self, question: frames.Load) -> None:
        self.me = question.me
        random.seed(question.seed)
        fields: Any = {name: Path(os.fsdecode(path)) for name, path in question.paths.items()} | question.rest
        what = solution.Solution(**fields)
        self._root = what.root
        try:
            self._module = self._context.enter_context(solution.loaded(what))
        except solution.SolutionError as e:
            self.send(frames.Mistake(question.id, shown(str(e), 5 * MAX_TEXT)))
        else:
            self.send(frames.Done(question.id, b""))

    def _make(self, question: frames.Make) -> None:
        assert self._module is not None
        ends = [_End(self, i) for i in range(question.n)]
        persister = _Persister(self, question.state, question.snapshot)
        try:
            rf = self._rf = self._module.Make(ends, self.me, persister, _ApplyCh(self))
            methods = [name for name in METHODS if callable(getattr(rf, name, None))]
            self._service = labrpc.MakeService(rf)
            made = frames.Made(self._service.name[:200], methods, look(rf))
            self.send(frames.Done(question.id, msgspec.msgpack.encode(made)))
        except BaseException as e:
            self.send(_raised(question.id, e))

    def _answer(self, question: frames.Ask) -> None:
        try:
            result = getattr(self._rf, question.method)(*unbox(question.args))
            result = tuple(result) if isinstance(result, tuple) else result  # a named tuple is a tuple, too
            self.send(frames.Done(question.id, box(result, frames.MAX_ANSWER)))
        except BaseException as e:
            self.send(_raised(question.id, e))
        if question.method == "Kill":
            self._for_main.put(None)

    def _handle(self, question: frames.Handle) -> None:
        assert self._service is not None
        try:
            args_type = self._class(question.svc_meth, question.args_type)
            reply_type = self._class(question.svc_meth, question.reply_type)
            request = labrpc.Request(_NO_END, question.svc_meth, args_type, question.request, reply_type)
            self.send(frames.Done(question.id, self._service.dispatch(request)))
        except labrpc.LabrpcError as e:
            self.send(frames.Mistake(question.id, shown(str(e), 5 * MAX_TEXT)))
        except BaseException as e:
            thread = threading.current_thread()
            name, thread.name = thread.name, f"RPC handler {question.svc_meth}"
            threading.excepthook(threading.ExceptHookArgs((type(e), e, e.__traceback__, thread)))
            thread.name = name
            self.send(frames.Done(question.id, None))

    def _class(self, svc_meth: str, name: frames.Class) -> type:
        found = self._classes.get(name)
        if found is None:
            found = self._classes[name] = self._find_class(svc_meth, *name)
        return found

    def _find_class(self, svc_meth: str, module: str, qualname: str) -> type:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)  # the caller may have imported it later than at the start
        # A class that was made by a function may name a wrong module.
        for place in (sys.modules.get(module), *list(sys.modules.values())):
            file = getattr(place, "__file__", None) or ""
            if getattr(place, "__name__", "") != module and not Path(file).is_relative_to(self._root):
                continue
            found: Any = place
            for part in qualname.split("."):
                found = getattr(found, part, None)
            if isinstance(found, type):
                return found
        raise labrpc.LabrpcError(
            f"labrpc: {svc_meth} was called with an object of the class {qualname} of {module}, which server {self.me} "
            "cannot find: with a process for each server, define message classes at the top of a module"
        )

    def _places(self, question: frames.Where) -> frames.Places:
        stacks = sys._current_frames()
        about = stacks.get(self._at.get(question.about, 0)) if question.about is not None else None
        threads = [f"{t.name}: {_place(stacks.get(t.ident or 0))}" for t in self._busy()]
        return frames.Places(question.id, shown(_place(about)) if about else "", [shown(t) for t in threads[:100]])

    # --- what an ordinary run would show ---

    def _thread_died(self, args: threading.ExceptHookArgs) -> None:
        e = args.exc_value
        if e is None or e is self._told:  # labrpc tells of a mistake before it ends the thread
            return
        self._told = e
        exits = isinstance(e, SystemExit)
        what = repr(e.code) if isinstance(e, SystemExit) else _what(e)
        name = args.thread.name if args.thread else "unknown"
        self.send(frames.Died(shown(name), exits, shown(what), shown(_innermost_line(e)), _traceback(e)))

    def _complain(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if filename.startswith(NOT_THE_STUDENTS):
            filename, lineno = "", 0
        self.send(frames.Complaint(shown(category.__name__, 200), shown(str(message)), shown(filename), lineno))

    def _busy(self) -> list[threading.Thread]:
        """The threads of the submission, and ours that are in it."""
        ours = {t.ident for t in self._pool.threads()} | {self._reader.ident, threading.main_thread().ident}
        at = set(self._at.copy().values())
        return [t for t in threading.enumerate() if t.ident not in ours or t.ident in at]

    def _tell_leaks(self) -> None:
        limit = time.monotonic() + LEAK_LIMIT
        patience, left = time.monotonic() + LEAK_PATIENCE, self._busy()
        while left and time.monotonic() < min(patience, limit):
            time.sleep(0.01)
            before, left = left, self._busy()
            if len(left) < len(before):
                patience = time.monotonic() + LEAK_PATIENCE
        stacks = sys._current_frames()
        by_place: dict[str, list[str]] = {}
        for thread in left:
            by_place.setdefault(_place(stacks.get(thread.ident or 0)), []).append(thread.name)
        for place, names in by_place.items():
            self.send(frames.Leak(shown(names[0]), len(names), shown(place)))


_NO_END: Any = None  # where a request came from is the judge's business


# --- what the server gets ------------------------------------------------------------------------------------------


class _End(labrpc.ClientEnd):
    def __init__(self, player: Player, number: int) -> None:
        self._player = player
        self._number = number

    def __repr__(self) -> str:
        return f"<ClientEnd to server {self._number}>"

    def carry(self, request: labrpc.Request) -> bytes | None:
        classes = self._player.declare(request.args_type), self._player.declare(request.reply_type)
        answer = self._player.ask(
            lambda number: frames.Call(number, self._number, request.method, classes[0], request.args, classes[1])
        )
        if isinstance(answer, frames.Mistake):
            raise labrpc.LabrpcError(answer.text)
        value: bytes | None = answer.value
        return value


class _Persister(Persister):
    def __init__(self, player: Player, state: bytes, snapshot: bytes) -> None:
        super().__init__()
        self._player = player
        self._raftstate, self._snapshot = state, snapshot

    def SaveRaftState(self, state: Buffer) -> None:
        with self._mu:
            self._raftstate = bytes(state)
            self._player.send(frames.Save(self._raftstate, None))

    def SaveStateAndSnapshot(self, state: Buffer, snapshot: Buffer | None) -> None:
        with self._mu:
            self._raftstate, self._snapshot = bytes(state), bytes(snapshot or b"")
            self._player.send(frames.Save(self._raftstate, self._snapshot))

    def Save(self, raftstate: Buffer, snapshot: Buffer | None) -> None:
        self.SaveStateAndSnapshot(raftstate, snapshot)


class _ApplyCh(ApplyCh):
    def __init__(self, player: Player) -> None:
        super().__init__()
        self._player = player

    def put(self, msg: ApplyMsg, block: bool = True, timeout: float | None = None) -> None:
        odd = None
        if not (hasattr(msg, "CommandValid") and hasattr(msg, "SnapshotValid")):
            odd, msg = look(msg), ApplyMsg()
        snapshot = getattr(msg, "Snapshot", b"")
        answer = self._player.ask(
            lambda number: frames.Put(
                number,
                bool(block),
                None if timeout is None else min(max(0.0, timeout), frames.MAX_TIMEOUT),
                odd,
                bool(msg.CommandValid),
                box(getattr(msg, "Command", None)),
                getattr(msg, "CommandIndex", 0),
                bool(msg.SnapshotValid),
                None if snapshot is None else bytes(snapshot),
                getattr(msg, "SnapshotTerm", 0),
                getattr(msg, "SnapshotIndex", 0),
            )
        )
        if answer.value is None:
            raise queue.Full


def _class_name(cls: type) -> frames.Class:
    return cls.__module__, cls.__qualname__


# --- exceptions and places -----------------------------------------------------------------------------------------


def _raised(number: int, e: BaseException) -> frames.Raised:
    return frames.Raised(number, shown(_what(e)), shown(_innermost_line(e)), _traceback(e))


def _what(e: BaseException) -> str:
    try:
        return f"{type(e).__name__}: {e}"
    except Exception:
        return f"{type(e).__name__}"


def _innermost_line(e: BaseException) -> str:
    """The innermost line of the submission, if there is one."""
    stack = traceback.extract_tb(e.__traceback__)
    for line in reversed([line for line in stack if not line.filename.startswith(NOT_THE_STUDENTS)] or stack):
        return f"in {line.name}, {line.filename}:{line.lineno}"
    return "nowhere"


def _traceback(e: BaseException) -> str:
    """The traceback, of the submission's lines alone where there are some."""
    whole = traceback.TracebackException.from_exception(e)
    part: traceback.TracebackException | None = whole
    while part:
        students = [line for line in part.stack if not line.filename.startswith(NOT_THE_STUDENTS)]
        part.stack = traceback.StackSummary.from_list(students or part.stack)
        part = part.__cause__ or part.__context__
    return shown("".join(whole.format()), 5 * MAX_TEXT)


def _place(frame: types.FrameType | None) -> str:
    """The function and line that a thread is in: the innermost that is not a library's waiting."""
    while frame and frame.f_back and frame.f_code.co_filename.startswith(NOT_THE_STUDENTS):
        frame = frame.f_back
    if not frame:
        return "at an unknown line"
    return f"in {frame.f_code.co_qualname}, {frame.f_code.co_filename}:{frame.f_lineno}"


# --- the process ---------------------------------------------------------------------------------------------------


def _end(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


def _text_to(file: int) -> TextIO:
    return open(file, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)


def of_file() -> NoReturn:
    """As `main`, with the connection as the open file that the first argument names."""
    os.dup2(int(sys.argv[1]), 0)
    os.close(int(sys.argv[1]))
    main()


def main() -> NoReturn:
    sys.stdout, sys.stderr = _text_to(1), _text_to(2)
    wire = os.dup(0)  # not inherited by programs that the submission starts
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def write(data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(wire, left) :]

    Player(frames.Connection(lambda n: os.read(wire, n), write, frames.TO_PLAYER)).run()
