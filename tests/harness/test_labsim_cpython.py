"""CPython's own tests of threads, locks, queues and pools, each method in a world of its own.

They say what a program may rely on. Where a world differs, and is meant to, it stands in DIFFERENCES with the reason.
"""

from __future__ import annotations

import gc
import importlib.util
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

from labsim import SimulationError, World

MODULES = [
    "test_queue",
    "test_sched",
    "test_thread",
    "test_threading",
    "test_threading_local",
    # These have the pools; the folder is there from 3.13 on, or with a longer name in some builds of earlier ones.
    "test_concurrent_futures.test_as_completed",
    "test_concurrent_futures.test_future",
    "test_concurrent_futures.test_init",
    "test_concurrent_futures.test_shutdown",
    "test_concurrent_futures.test_thread_pool",
    "test_concurrent_futures.test_wait",
]

_NAMES = "A lock is shown by its number, not by its address, so that a run prints the same in every process."

DIFFERENCES = {
    "test_thread.LockTests.test_locked_repr": _NAMES,
    "test_thread.LockTests.test_repr": _NAMES,
    "test_threading.ThreadTests.test_PyThreadState_SetAsyncExc": "A world's idents are not those of OS threads.",
    "test_threading.ThreadTests.test_disallow_instantiation": "What makes a lock is the type of locks itself.",
    "test_threading.ThreadTests.test_tstate_lock": "It looks into how Threads know of their end, as they did up to 3.12.",
    "test_threading.ThreadTests.test_shutdown_locks": "A world does not wait for its threads when it is left.",
    "test_threading.CRLockTests.test_locked_repr": _NAMES,
    "test_threading.CRLockTests.test_repr": _NAMES,
    "test_threading.ConditionAsRLockTests.test_locked_repr": _NAMES,
    "test_threading.ConditionAsRLockTests.test_repr": _NAMES,
    "test_threading.LockTests.test_locked_repr": _NAMES,
    "test_threading.LockTests.test_repr": _NAMES,
}

# Classes of tests that are not about threads of one process: of processes, of several interpreters, of signals.
NOT_RUN = ("Interpreter", "InterruptMain", "Process", "Subinterp")


@pytest.fixture(autouse=True)
def small_heap() -> Iterator[None]:
    """CPython's tests collect garbage again and again: not all that this process has read and made before."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("name", MODULES)
def test_cpythons_own_tests_pass_in_worlds_but_for_the_differences_that_are_meant(name: str) -> None:
    if not _exists(f"test.{name}"):
        pytest.skip(f"this Python comes without test.{name}")
    with _world("collecting", name) as (_, module):
        ids = [case.id() for case in _cases(module)]
    failures = {}
    for method in ids:
        failure = _run(name, method)
        if failure is not None:
            failures[method.removeprefix("test.")] = failure
    meant = {method for method in DIFFERENCES if f"test.{method}" in ids}
    assert ids
    assert meant <= {*failures}, "these are no differences any more"
    unexpected = [f"{method}: {failure}" for method, failure in failures.items() if method not in meant]
    assert not unexpected, "\n".join(unexpected)


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def _world(seed: str, name: str) -> Iterator[tuple[World, ModuleType]]:
    import test

    with World(seed, fresh=[Path(test.__path__[0])], limit=3600, spin=1) as world:
        support: Any = world.import_module("test.support")
        support.has_fork_support = False
        script_helper: Any = world.import_module("test.support.script_helper")
        script_helper.assert_python_ok = script_helper.assert_python_failure = _skip
        script_helper.run_python_until_end = script_helper.spawn_python = _skip
        # The tests of pools import what only processes need.
        processes: Any = ModuleType("concurrent.futures.process")
        processes._check_system_limits = _skip
        processes.BrokenProcessPool = type("BrokenProcessPool", (Exception,), {})
        futures: Any = world.import_module("concurrent.futures")
        futures.ProcessPoolExecutor = None
        assert world._importer is not None
        world._importer.modules["concurrent.futures.process"] = processes
        yield world, world.import_module(f"test.{name}")


def _skip(*args: object, **kwargs: object) -> NoReturn:
    raise unittest.SkipTest("needs a process of its own")


def _cases(module: ModuleType) -> Iterator[unittest.TestCase]:
    def flat(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
        for part in suite:
            if isinstance(part, unittest.TestSuite):
                yield from flat(part)
            else:
                yield part

    for case in flat(unittest.defaultTestLoader.loadTestsFromModule(module)):
        if not any(name in type(case).__name__ for name in NOT_RUN):
            yield case


def _run(name: str, method: str) -> str | None:
    """What is wrong with a test method, if anything."""
    result = unittest.TestResult()
    try:
        with _world(method, name) as (world, module):
            suite = unittest.TestSuite(case for case in _cases(module) if case.id() == method)
            world.run(suite.run, result)
    except (SimulationError, KeyboardInterrupt) as error:
        return f"{type(error).__name__}: {error}"
    wrong = result.errors + result.failures
    return wrong[0][1] if wrong else None
