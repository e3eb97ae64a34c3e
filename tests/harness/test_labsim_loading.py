"""What a world's import statement finds, and that nothing of it is to be seen outside."""

from __future__ import annotations

import builtins
import dataclasses
import gc
import importlib
import inspect
import json
import os
import pickle
import random
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import labsim
from labsim import SimulationError, World


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path whose modules are executed afresh."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def world(folder: Path) -> Iterator[World]:
    with World("loading", fresh=[folder], limit=100) as world:
        yield world


def write(folder: Path, files: dict[str, str]) -> None:
    """Write modules, named by their paths without `.py`."""
    for name, source in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source))


def load(world: World, folder: Path, source: str) -> Any:
    write(folder, {"program": source})
    return world.load("program", folder / "program.py")


# -- what is found ---------------------------------------------------------------------------------------------------


def test_a_world_has_its_own_threads_clock_and_chance_and_shares_the_rest(world: World, folder: Path) -> None:
    program = load(world, folder, "import threading, time, queue, random, json, pickle, collections.abc, os.path, sys")
    assert program.threading is not threading
    assert program.time.sleep is not time.sleep
    assert program.random.Random is not random.Random
    assert program.queue.threading is program.threading
    assert program.json is json
    assert program.pickle is pickle
    assert program.os.path is os.path
    assert program.sys.path is sys.path


def test_imports_inside_functions_find_the_world_as_well(world: World, folder: Path) -> None:
    program = load(
        world,
        folder,
        """
        def main():
            import time
            from threading import Lock, Thread
            from concurrent.futures import ThreadPoolExecutor
            from concurrent.futures.thread import ThreadPoolExecutor as same
            import concurrent.futures as cf
            import importlib, importlib.util
            assert importlib.import_module("time") is time
            assert importlib.import_module("concurrent.futures") is cf and same is ThreadPoolExecutor
            assert importlib.util.find_spec("json")
            assert __import__("time") is time
            exec("import time", names := {})
            assert names["time"] is time
            time.sleep(50)
            return Lock, Thread
        """,
    )
    began = time.monotonic()
    lock, thread = world.run(program.main)
    assert time.monotonic() - began < 5
    assert 50 <= world.now() < 51
    assert thread is not threading.Thread
    assert lock is not threading.Lock


def test_modules_below_a_fresh_folder_are_executed_for_each_world(folder: Path) -> None:
    write(folder, {"counted": "ran = []", "program": "import counted\ncounted.ran.append(1)"})
    for _ in range(2):
        with World("fresh", fresh=[folder]) as world:
            assert world.load("program", folder / "program.py").counted.ran == [1]


def test_a_changed_file_is_executed_as_it_is_now(folder: Path) -> None:
    for version in ("first", "second"):
        write(folder, {"changing": f"version = {version!r}"})
        with World("changed", fresh=[folder]) as world:
            assert world.import_module("changing").version == version


def test_packages_import_their_parts_in_every_way(world: World, folder: Path) -> None:
    write(
        folder,
        {
            "pack/__init__": "from . import first\nfrom .first import one\n__all__ = ['second', 'one']",
            "pack/first": "from . import second\none = 1",
            "pack/second": "from pack import first\nimport pack.deep.er",
            "pack/deep/__init__": "",
            "pack/deep/er": "from .. import first as f\nfrom ..second import __name__ as n",
            "bare/part": "from . import other",
            "bare/other": "",
        },
    )
    program = load(
        world,
        folder,
        """
        import pack.deep.er
        import pack.deep.er as er
        from pack import second
        from pack.deep import er as again
        from pack import *
        from bare import part
        import bare.other
        assert er is again is pack.deep.er and er.f is pack.first and one == 1 and er.n == "pack.second"
        assert part.other is bare.other
        try:
            from pack import third
        except ImportError as error:
            message = str(error)
        """,
    )
    assert "third" in program.message
    assert sys.modules["pack"] is program.pack


def test_a_package_can_be_loaded_under_another_name(world: World, folder: Path) -> None:
    home = folder / "student" / "raft"
    write(folder, {"raft/__init__": "place = 'shared'", "raft/api": ""})
    write(home, {"__init__": "from .log import Log\nfrom raft import place", "log": "class Log: pass"})
    solution = world.load("solution", home / "__init__.py", search=[home])
    assert (solution.place, solution.Log.__module__) == ("shared", "solution.log")
    assert world.import_module("raft.api").__file__ == str(folder / "raft" / "api.py")


def test_a_file_finds_its_neighbours_and_the_shared_package_of_its_own_name(world: World, folder: Path) -> None:
    write(folder, {"raft/__init__": "place = 'shared'"})
    write(
        folder / "student",
        {
            "raft": "import helper, mine\nfrom raft import place\nback = helper.back",
            "helper": "import mine\nback = mine",
            "mine": "import helper",
            "alone": "import asks",
            "asks": "def ask():\n import alone\n return alone",
        },
    )
    solution = world.load("solution", folder / "student" / "raft.py")
    assert (solution.place, solution.back) == ("shared", solution.mine)
    alone = world.load("loaded", folder / "student" / "alone.py")
    assert alone.asks.ask() is alone


def test_a_module_that_fails_leaves_nothing_behind(world: World, folder: Path) -> None:
    write(folder, {"whole": "import half", "half": "import part\nraise ZeroDivisionError", "part": ""})
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            world.import_module("whole")
        assert "half" not in sys.modules
        assert "whole" not in sys.modules
    with pytest.raises(ModuleNotFoundError, match="No module named 'nowhere'"):
        world.import_module("nowhere")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'part.nowhere'.*not a package"):
        world.import_module("part.nowhere")


DATACLASSES = """
    from __future__ import annotations
    import dataclasses
    from dataclasses import dataclass, field
    from typing import Any, ClassVar

    @dataclass
    class Entry:
        Term: int = 0
        Next: Entry | None = None
        Log: list[Entry] = field(default_factory=list, repr=False)

    @dataclass(frozen=True, order=True)
    class Ordered:
        "With a docstring, without defaults, and with a hash of its own."
        a: int
        b: str
        def __hash__(self): return 5

    @dataclass
    class Same:
        a: bool = False
        def __eq__(self, other): return True

    @dataclass
    class Other(Entry):
        kind: ClassVar[int] = 3
        made: object = Entry

    CLASSES = Entry, Ordered, Same, Other
"""


def test_a_dataclass_is_the_same_in_the_second_world_as_in_the_first_and_outside(folder: Path) -> None:
    """What it costs to make is spent once."""

    def looked_at(module: Any) -> list[Any]:
        seen: list[Any] = []
        for cls in module.CLASSES:
            assert cls.__init__.__globals__ is vars(module)
            seen.append(str(inspect.signature(cls)))
            for name, value in vars(cls).items():
                seen.append((name, repr(value) if isinstance(value, (str, tuple, int)) else type(value)))
                seen.append([getattr(value, kind, None) for kind in ("__qualname__", "__code__", "__doc__")])
            seen += [(f.name, f.type, f.repr, f.default_factory) for f in dataclasses.fields(cls)]
        first = module.Entry(1, module.Entry())
        assert first == module.Entry(1, module.Entry()) != module.Entry()
        assert first.Log is not first.Next.Log
        assert module.Ordered(1, "a") < module.Ordered(1, "b")
        assert hash(module.Ordered(1, "a")) == 5
        assert module.Same(True) == module.Same(False)
        return [*seen, repr(first), typing.get_type_hints(module.Entry)["Term"]]

    write(folder, {"classes": DATACLASSES})
    outside = looked_at(importlib.import_module("classes"))
    worlds = []
    for seed in ("first", "second", "third"):
        with World(seed, fresh=[folder]) as world:
            worlds.append((loaded := world.import_module("classes"), looked_at(loaded)))
    del sys.modules["classes"]
    assert worlds[0][1] == worlds[1][1] == worlds[2][1] == outside
    assert len({id(module.Entry.__init__) for module, _ in worlds}) == len(worlds)


def test_a_dataclass_that_has_changed_is_made_anew(folder: Path) -> None:
    for default in ("0", "False", "1", "''", "field(default_factory=list)", "field(default=1)", "field()"):
        with World("changed", fresh=[folder]) as world:
            source = f"""
                from dataclasses import dataclass, field
                @dataclass
                class Message:
                    Term: int = {default}
            """
            message: Any = load(world, folder, source).Message
            if default == "field()":
                with pytest.raises(TypeError, match="missing 1 required"):
                    message()
            else:
                assert repr(message().Term) == {"field(default_factory=list)": "[]", "field(default=1)": "1"}.get(
                    default, default
                )


def test_classes_are_found_by_pickle_dataclasses_and_typing(world: World, folder: Path) -> None:
    program = load(
        world,
        folder,
        """
        from __future__ import annotations
        import copy, dataclasses, pickle, typing
        if __name__ == "__main__":
            raise AssertionError

        @dataclasses.dataclass
        class Entry:
            term: int
            next: Entry | None = None
            shared: typing.ClassVar[int] = 3

        def main():
            entry = Entry(1, Entry(2))
            assert [f.name for f in dataclasses.fields(Entry)] == ["term", "next"]
            assert typing.get_type_hints(Entry)["next"] == Entry | None
            assert pickle.loads(pickle.dumps(entry)) == entry == copy.deepcopy(entry)
        """,
    )
    world.run(program.main)


def test_everything_can_be_imported_from_futures_that_can_be_virtual(world: World, folder: Path) -> None:
    program = load(world, folder, "from concurrent.futures import *")
    assert world.run(lambda: program.ThreadPoolExecutor(1).submit(lambda: 7).result()) == 7


# -- what is not to be seen ------------------------------------------------------------------------------------------


def test_leaving_a_world_leaves_everything_as_it_was(folder: Path) -> None:
    write(folder, {"before": "", "within": "import before", "failing": "import before\n1 / 0"})
    importlib.import_module("before")
    importlib.import_module("dataclasses")
    patched = (builtins, threading, time, random, os, sys, gc, sys.modules["dataclasses"], importlib)

    def state() -> list[object]:
        return [dict(sys.modules), list(sys.modules), gc.isenabled(), *[dict(vars(module)) for module in patched]]

    untouched = state()
    with World("isolation", fresh=[folder]) as world:
        world.import_module("within")
        assert sys.modules["before"] is not untouched[0]["before"]  # type: ignore[index]
        with pytest.raises(ZeroDivisionError):
            world.import_module("failing")
    assert state() == untouched
    del sys.modules["before"]


def test_real_threads_go_on_and_import_what_they_always_did(world: World, folder: Path) -> None:
    program = load(world, folder, "import time\ndef main():\n    for _ in range(2000): time.sleep(0.01)")
    seen: list[object] = []
    stop = threading.Event()

    def real() -> None:
        while not stop.is_set():
            import time

            time.sleep(0.001)
            seen.append(importlib.import_module("time") is time and time is sys.modules["time"])

    thread = threading.Thread(target=real)
    thread.start()
    while not seen:
        time.sleep(0.001)
    world.run(program.main)
    stop.set()
    thread.join()
    assert all(seen)
    assert world.now() == pytest.approx(20, rel=0.01)


def test_worlds_come_one_at_a_time_and_once_each(folder: Path) -> None:
    first, second = World("first", fresh=[folder]), World("second", fresh=[folder])
    with pytest.raises(SimulationError, match="not open"):
        first.run(print)
    with first, pytest.raises(SimulationError, match="another world is open"):
        second.__enter__()
    with pytest.raises(SimulationError, match="not open"):
        first.run(print)
    with pytest.raises(SimulationError, match="entered once"), first:
        pass
    with second:
        pass


def test_a_world_that_looks_for_no_races_does_not_load_the_detector(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from labsim import World
for watch in (None, lambda path: True):
    with World("seed", fresh=[Path(".")], watch=watch) as world:
        world.import_module("queue")
    print(sorted(name for name in ("labsim.race", "labsim.races", "labsim.rewrite") if name in sys.modules))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(labsim.__file__).parents[1])}
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert result.stdout.splitlines() == ["[]", "['labsim.race', 'labsim.races', 'labsim.rewrite']"]


def test_nothing_is_needed_that_only_posix_has(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        dedent("""
            import concurrent.futures, datetime, os, queue, threading, time
            from multiprocessing.pool import ThreadPool
            def main():
                assert not hasattr(os, "fork") and not hasattr(time, "clock_gettime")
                with concurrent.futures.ThreadPoolExecutor() as pool:
                    pool.submit(time.sleep, 1).result()
                with ThreadPool() as pool:
                    pool.map(abs, range(9))
                threading.Timer(1, print, ["done", datetime.datetime.now().year, threading.stack_size()]).start()
                time.sleep(2)
            def spin():
                while True: pass
        """)
    )
    script = """
import os, signal, sys, time
for name in ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
for module, names in (
    (os, "fork forkpty getuid kill killpg posix_spawn posix_spawnp register_at_fork sched_getaffinity"),
    (signal, "SIGALRM SIGUSR1 alarm pthread_kill pthread_sigmask setitimer sigwait"),
    (time, "CLOCK_MONOTONIC CLOCK_REALTIME CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID clock_getres clock_gettime"),
    (time, "clock_gettime_ns clock_settime clock_settime_ns pthread_getcpuclockid tzset"),
):
    for name in names.split():
        vars(module).pop(name, None)
from pathlib import Path
from labsim import Spin, World
folder = Path(sys.argv[1])
for watch in (None, lambda path: True):
    with World("windows", fresh=[folder], watch=watch, spin=0.2) as world:
        program = world.load("program", folder / "program.py")
        world.run(program.main)
        try:
            world.run(program.spin)
        except Spin:
            print("stopped")
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(labsim.__file__).parents[1])}
    command = [sys.executable, "-c", script, str(tmp_path)]
    result = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("done 2001 0\nstopped\n" * 2, "")
