"""Everything that threads, clocks and queues do, once with real threads and once in virtual time.

Each function of `behaviour` is an ordinary program that says how Python behaves. For virtual time, this very file is
loaded into a world and the function of the same name is run there.
"""

from __future__ import annotations

import _thread
import contextvars
import copy
import datetime
import logging
import logging.handlers
import pickle
import queue
import random
import sched
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from threading import Condition, Event, Lock, Thread
from types import FrameType

import pytest

from labsim import World

BEHAVIOURS: list[Callable[[], None]] = []

SHORT = 0.02  # long enough for a real thread to get somewhere
LONG = 10.0  # never waited for


def behaviour(function: Callable[[], None]) -> Callable[[], None]:
    BEHAVIOURS.append(function)
    return function


@pytest.mark.parametrize("world", ["threads", "virtual"])
@pytest.mark.parametrize("function", BEHAVIOURS, ids=lambda function: function.__name__)
def test_both_worlds(function: Callable[[], None], world: str) -> None:
    if world == "threads":
        function()
        return
    with World(function.__name__, fresh=[Path(__file__).parent], limit=5) as simulated:
        program = simulated.load("behaviours", Path(__file__))
        simulated.run(getattr(program, function.__name__))


def start(*functions: Callable[[], object]) -> list[Thread]:
    threads = [Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    return threads


def run(*functions: Callable[[], object]) -> None:
    for thread in start(*functions):
        thread.join()


def at_last(condition: Callable[[], bool]) -> bool:
    """Whether something that another thread is about to do happens."""
    deadline = time.monotonic() + LONG
    while not condition() and time.monotonic() < deadline:
        time.sleep(SHORT / 20)
    return condition()


# -- locks -----------------------------------------------------------------------------------------------------------


@behaviour
def a_lock_lets_one_thread_in_at_a_time() -> None:
    lock, inside, seen = Lock(), [], []

    def enter() -> None:
        for _ in range(3):
            with lock:
                inside.append(threading.get_ident())
                seen.append(len(inside))
                time.sleep(SHORT / 20)
                inside.pop()

    run(enter, enter, enter)
    assert seen == [1] * 9


@behaviour
def a_lock_can_be_released_by_another_thread() -> None:
    lock = Lock()
    lock.acquire()
    Thread(target=lock.release).start()
    assert lock.acquire(timeout=LONG)
    assert lock.locked()


@behaviour
def a_lock_that_is_not_held_cannot_be_released() -> None:
    for lock in (threading.Lock(), threading.RLock()):
        with pytest.raises(RuntimeError):
            lock.release()


@behaviour
def acquiring_a_held_lock_gives_up_in_time() -> None:
    lock = Lock()
    assert lock.acquire()
    assert not lock.acquire(False)
    assert not lock.acquire(timeout=0)
    began = time.monotonic()
    assert not lock.acquire(timeout=SHORT)
    assert SHORT <= time.monotonic() - began < LONG
    lock.release()
    assert lock.acquire(True, SHORT)


@behaviour
def nonsense_timeouts_are_refused() -> None:
    for lock in (threading.Lock(), threading.RLock()):
        with pytest.raises(ValueError, match="non-blocking"):
            lock.acquire(False, 1)
        with pytest.raises(ValueError, match="negative|positive"):
            lock.acquire(True, -2)
        with pytest.raises(OverflowError):
            lock.acquire(True, threading.TIMEOUT_MAX * 2)


@behaviour
def an_rlock_is_its_holders_as_often_as_it_likes() -> None:
    lock, got = threading.RLock(), []
    with lock, lock:
        run(lambda: got.append(lock.acquire(False)))
    run(lambda: got.append(lock.acquire(False)))
    assert got == [False, True]


@behaviour
def an_rlock_cannot_be_released_by_another_thread() -> None:
    lock, raised = threading.RLock(), []

    def release() -> None:
        try:
            lock.release()
        except RuntimeError as error:
            raised.append(error)

    with lock:
        run(release)
    assert len(raised) == 1


# -- conditions and events -------------------------------------------------------------------------------------------


@behaviour
def a_condition_wakes_those_who_wait() -> None:
    for lock in (None, threading.Lock(), threading.RLock()):
        condition, woken, waiting = Condition(lock), [], []

        def wait(condition: Condition = condition, woken: list[bool] = woken, waiting: list[int] = waiting) -> None:
            with condition:
                waiting.append(1)
                woken.append(condition.wait(LONG))

        threads = start(wait, wait, wait)
        assert at_last(lambda waiting=waiting: len(waiting) == 3)
        with condition:
            condition.notify()
        assert at_last(lambda woken=woken: len(woken) == 1)
        with condition:
            condition.notify_all()
        for thread in threads:
            thread.join()
        assert woken == [True] * 3


@behaviour
def a_condition_gives_all_levels_of_an_rlock_back() -> None:
    condition, done = Condition(), []

    def work() -> None:
        with condition:
            done.append(1)
            condition.notify()

    with condition, condition:
        Thread(target=work).start()
        assert condition.wait_for(lambda: done, LONG)


@behaviour
def a_wait_for_something_that_does_not_come_ends_in_time() -> None:
    condition = Condition()
    began = time.monotonic()
    with condition:
        assert condition.wait(SHORT) is False
        assert condition.wait_for(lambda: False, SHORT) is False
    assert 2 * SHORT <= time.monotonic() - began < LONG
    assert threading.Event().wait(SHORT) is False


@behaviour
def a_condition_must_be_held_to_be_used() -> None:
    for use in (Condition().wait, Condition().notify, Condition(Lock()).notify_all):
        with pytest.raises(RuntimeError):
            use()


@behaviour
def an_event_lets_everybody_through_once_set() -> None:
    event, through = Event(), []
    threads = start(*[lambda: through.append(event.wait(LONG))] * 3)
    assert not event.is_set()
    event.set()
    for thread in threads:
        thread.join()
    assert through == [True] * 3
    event.clear()
    assert not event.wait(0)


@behaviour
def polling_an_event_lets_it_be_set() -> None:
    event = Event()
    Thread(target=event.set).start()
    while not event.is_set():
        pass


@behaviour
def a_semaphore_admits_as_many_as_it_counts() -> None:
    semaphore, inside, most = threading.Semaphore(2), [], []

    def enter() -> None:
        with semaphore:
            inside.append(1)
            most.append(len(inside))
            time.sleep(SHORT / 4)
            inside.pop()

    run(*[enter] * 5)
    assert max(most) == 2
    assert semaphore.acquire(timeout=0)
    assert semaphore.acquire(blocking=False)
    assert not semaphore.acquire(timeout=SHORT)


@behaviour
def a_bounded_semaphore_is_not_released_too_often() -> None:
    with pytest.raises(ValueError, match="too many"):
        threading.BoundedSemaphore(1).release()


@behaviour
def a_barrier_holds_until_all_are_there() -> None:
    passed, actions = [], []
    barrier = threading.Barrier(3, action=lambda: actions.append(len(passed)))

    def meet() -> None:
        for _ in range(2):
            passed.append(barrier.wait(LONG))

    run(meet, meet, meet)
    assert sorted(passed) == [0, 0, 1, 1, 2, 2]
    assert len(actions) == 2


@behaviour
def a_barrier_breaks_when_somebody_does_not_come() -> None:
    barrier = threading.Barrier(2)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(SHORT)
    assert barrier.broken


# -- threads ---------------------------------------------------------------------------------------------------------


@behaviour
def a_thread_is_alive_until_its_function_returns() -> None:
    go = Event()
    thread = Thread(target=go.wait)
    assert not thread.is_alive()
    thread.start()
    thread.join(SHORT)
    assert thread.is_alive()
    go.set()
    thread.join()
    assert not thread.is_alive()
    thread.join(timeout=-1)


@behaviour
def join_and_start_are_refused_where_they_make_no_sense() -> None:
    thread = Thread(target=lambda: None)
    with pytest.raises(RuntimeError, match="before it is started"):
        thread.join()
    thread.start()
    with pytest.raises(RuntimeError, match="only be started once"):
        thread.start()
    with pytest.raises(RuntimeError, match="current thread"):
        threading.current_thread().join()


@behaviour
def a_trace_function_sees_its_own_thread_only() -> None:
    seen: list[tuple[str, str]] = []

    def followed() -> int:
        return 1

    def trace(frame: FrameType, event: str, argument: object) -> None:
        if frame.f_code is followed.__code__:
            seen.append((threading.current_thread().name, event))

    def work() -> None:
        for _ in range(3):
            followed()
            time.sleep(SHORT / 20)

    def traced() -> None:
        for install, installed in ((sys.settrace, sys.gettrace), (sys.setprofile, sys.getprofile)):
            before = installed()
            install(trace)
            assert installed() is trace
            work()
            install(before)

    threads = [Thread(target=traced, name="traced"), Thread(target=work, name="other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [("traced", "call")] * 3 + [("traced", "call"), ("traced", "return")] * 3


@behaviour
def a_trace_function_for_all_threads_is_remembered_and_used() -> None:
    seen: list[str] = []

    def followed() -> int:
        return 1

    def trace(frame: FrameType, event: str, argument: object) -> None:
        if frame.f_code is followed.__code__:
            seen.append(event)

    pairs = ((threading.settrace, threading.gettrace), (threading.setprofile, threading.getprofile))
    for install, installed in pairs:
        before = installed()
        install(trace)
        try:
            assert installed() is trace
            run(followed)
            followed()
        finally:
            install(before)  # type: ignore[arg-type]
    assert seen == ["call", "call", "return"]


@behaviour
def a_crash_of_a_bare_thread_is_an_unraisable_one() -> None:
    caught: list[tuple[type, str]] = []

    def crash() -> None:
        raise LookupError("mine")

    hook = sys.unraisablehook
    sys.unraisablehook = lambda args: caught.append((args.exc_type, str(args.err_msg)))
    try:
        _thread.start_new_thread(crash, ())
        assert at_last(lambda: bool(caught))
    finally:
        sys.unraisablehook = hook
    assert caught[0][0] is LookupError
    assert caught[0][1].startswith("Exception ignored in thread started by")


@behaviour
def a_handle_starts_one_thread_which_others_join() -> None:
    if not hasattr(_thread, "_ThreadHandle"):  # before 3.13
        return
    handle = _thread._ThreadHandle()
    raised: list[str] = []
    for use in (handle.join, handle._set_done):
        with pytest.raises(RuntimeError, match="thread not started"):
            use()

    def join_itself() -> None:
        time.sleep(SHORT)
        try:
            handle.join()
        except RuntimeError as error:
            raised.append(str(error))

    _thread.start_joinable_thread(join_itself, handle=handle)
    with pytest.raises(RuntimeError, match="thread already started"):
        _thread.start_joinable_thread(join_itself, handle=handle)
    done: list[bool] = []
    threads = start(*[lambda: done.append((handle.join(), handle.is_done())[1])] * 5)
    for thread in threads:
        thread.join()
    assert done == [True] * 5
    assert raised == ["Cannot join current thread"]


@behaviour
def threads_know_who_they_are() -> None:
    seen, go = [], Event()

    def look() -> None:
        me = threading.current_thread()
        assert me.ident == threading.get_ident()
        assert me.native_id == threading.get_native_id()
        assert me in threading.enumerate()
        seen.append(me)
        go.wait()

    before = threading.active_count()
    threads = start(look, look)
    assert at_last(lambda: len(seen) == 2)
    assert threading.active_count() == before + 2
    go.set()
    for thread in threads:
        thread.join()
    assert {t.ident for t in seen} == {t.ident for t in threads}
    assert len({threading.get_ident(), *(t.ident for t in seen)}) == 3
    assert threading.active_count() == before
    assert threading.current_thread() is threading.main_thread()
    assert threads[0].name.endswith("(look)")
    assert "stopped" in repr(threads[0])


@behaviour
def being_a_daemon_is_inherited() -> None:
    seen = []

    def parent() -> None:
        seen.append(Thread().daemon)

    for daemon in (True, False):
        thread = Thread(target=parent, daemon=daemon)
        thread.start()
        thread.join()
    assert seen == [True, False]


@behaviour
def a_subclass_of_thread_runs_its_own_run() -> None:
    class Adder(Thread):
        def __init__(self, *numbers: int) -> None:
            super().__init__(name="adder")
            self.numbers, self.sum = numbers, 0

        def run(self) -> None:
            self.sum = sum(self.numbers)

    adder = Adder(1, 2, 3)
    adder.start()
    adder.join()
    assert (adder.name, adder.sum) == ("adder", 6)


@behaviour
def an_exception_in_a_thread_goes_to_the_excepthook() -> None:
    caught, before = [], threading.excepthook
    threading.excepthook = caught.append
    try:
        crasher = Thread(target=lambda: [][0])
        leaver = Thread(target=sys.exit, args=(3,))
        for thread in (crasher, leaver):
            thread.start()
            thread.join()
    finally:
        threading.excepthook = before
    assert [(args.exc_type, args.thread) for args in caught] == [(IndexError, crasher), (SystemExit, leaver)]
    assert str(caught[0].exc_value) == "list index out of range"
    assert caught[0].exc_traceback is not None
    assert callable(threading.__excepthook__)


@behaviour
def a_timer_fires_unless_it_is_cancelled() -> None:
    fired: list[str] = []
    kept = threading.Timer(SHORT, fired.append, ["kept"])
    cancelled = threading.Timer(SHORT, fired.append, ["cancelled"])
    began = time.monotonic()
    kept.start()
    cancelled.start()
    cancelled.cancel()
    kept.join()
    cancelled.join()
    assert time.monotonic() - began >= SHORT
    assert fired == ["kept"]


@behaviour
def low_level_threads_run_and_exit() -> None:
    seen = queue.SimpleQueue[object]()

    def work(number: int, *, name: str) -> None:
        seen.put((number, name, threading.current_thread().name.startswith("Dummy")))
        _thread.exit()

    ident = _thread.start_new_thread(work, (1,), {"name": "one"})
    assert seen.get(timeout=LONG) == (1, "one", True)
    assert isinstance(ident, int)
    lock = _thread.allocate_lock()
    assert lock.acquire()
    assert isinstance(lock, _thread.LockType)


@behaviour
def thread_local_data_is_each_threads_own() -> None:
    class Counter(threading.local):
        def __init__(self, start: int) -> None:
            self.count = start

        def add(self) -> None:
            self.count += 1

    plain, counter, seen = threading.local(), Counter(10), []
    plain.name = "main"

    def use() -> None:
        seen.append((hasattr(plain, "name"), counter.count))
        plain.name = threading.get_ident()
        counter.add()
        time.sleep(SHORT / 10)
        assert (plain.name, counter.count) == (threading.get_ident(), 11)
        del plain.name
        seen.append((hasattr(plain, "name"), counter.count))

    counter.add()
    counter.add()
    run(use, use)
    assert sorted(seen) == [(False, 10), (False, 10), (False, 11), (False, 11)]
    assert (plain.name, counter.count, vars(plain)) == ("main", 12, {"name": "main"})
    with pytest.raises(TypeError):
        threading.local(1)
    with pytest.raises(AttributeError, match="read-only"):
        plain.__dict__ = {}
    with pytest.raises(AttributeError):
        del plain.__dict__


@behaviour
def context_variables_are_each_threads_own() -> None:
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(1)
    seen = []

    def use() -> None:
        variable.set(variable.get() + 2)
        time.sleep(SHORT / 10)
        seen.append(variable.get())

    threads = [Thread(target=contextvars.Context().run, args=(use,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (seen, variable.get()) == ([2, 2], 1)


@behaviour
def an_exception_being_handled_is_each_threads_own() -> None:
    seen = []

    def handle(number: int) -> None:
        try:
            raise ValueError(number)
        except ValueError as error:
            time.sleep(SHORT / 10)
            seen.append(sys.exception() is error)

    run(lambda: handle(1), lambda: handle(2))
    assert (seen, sys.exception()) == ([True, True], None)


# -- queues ----------------------------------------------------------------------------------------------------------


@behaviour
def a_queue_hands_over_in_order_and_blocks_when_full_or_empty() -> None:
    items: queue.Queue[int | None] = queue.Queue(maxsize=2)
    got = []

    def consume() -> None:
        while (item := items.get()) is not None:
            got.append(item)
            items.task_done()
        items.task_done()

    with pytest.raises(queue.Empty):
        items.get(timeout=SHORT)
    items.put(0)
    items.put(1)
    assert (items.full(), items.qsize()) == (True, 2)
    with pytest.raises(queue.Full):
        items.put_nowait(2)
    with pytest.raises(queue.Full):
        items.put(2, timeout=SHORT)
    Thread(target=consume).start()
    for number in range(2, 10):
        items.put(number)
    items.put(None)
    items.join()
    assert (got, items.empty()) == (list(range(10)), True)


@behaviour
def the_other_queues_have_their_own_order() -> None:
    for kind, expected in (
        (queue.LifoQueue, [2, 3, 1]),
        (queue.PriorityQueue, [1, 2, 3]),
        (queue.SimpleQueue, [1, 3, 2]),
    ):
        items = kind()
        for number in (1, 3, 2):
            items.put(number)
        assert [items.get() for _ in range(3)] == expected
        began = time.monotonic()
        with pytest.raises(queue.Empty):
            items.get(timeout=SHORT)
        assert time.monotonic() - began >= SHORT
        with pytest.raises(queue.Empty):
            items.get_nowait()
        Thread(target=items.put, args=(7,)).start()
        while items.empty():
            pass
        assert items.get() == 7


# -- pools -----------------------------------------------------------------------------------------------------------


@behaviour
def a_pool_runs_what_it_is_given() -> None:
    def slow(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    with futures.ThreadPoolExecutor(3, thread_name_prefix="pool") as pool:
        assert list(pool.map(slow, [SHORT / 2, 0.0])) == [SHORT / 2, 0.0]
        assert pool.submit(lambda: threading.current_thread().name).result().startswith("pool")
        late, early = pool.submit(slow, 4 * SHORT), pool.submit(slow, SHORT)
        with pytest.raises(futures.TimeoutError):
            late.result(timeout=SHORT / 4)
        done, pending = futures.wait([late, early], return_when=futures.FIRST_COMPLETED)
        assert (done, pending) == ({early}, {late})
        assert list(futures.as_completed([late, early])) == [early, late]
        assert isinstance(pool.submit(lambda: [][0]).exception(), IndexError)
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(slow, 0)


@behaviour
def a_pool_that_is_shut_down_drops_what_has_not_begun() -> None:
    go = Event()
    pool = futures.ThreadPoolExecutor(1)
    first, second = pool.submit(go.wait, LONG), pool.submit(go.wait, LONG)
    pool.shutdown(wait=False, cancel_futures=True)
    assert second.cancelled()
    go.set()
    assert first.result(LONG) is True
    pool.shutdown()


# -- time and chance -------------------------------------------------------------------------------------------------


@behaviour
def sleeping_takes_the_time_it_says_on_every_clock() -> None:
    clocks = (time.time, time.monotonic, time.perf_counter)
    before = [clock() for clock in clocks]
    time.sleep(SHORT)
    assert all(SHORT * 0.99 <= clock() - began < LONG for clock, began in zip(clocks, before, strict=True))
    for clock, clock_ns in ((time.time, time.time_ns), (time.monotonic, time.monotonic_ns)):
        assert abs(clock() - clock_ns() / 1e9) < 1
    assert 0 <= time.process_time() <= time.process_time()
    assert 0 <= time.thread_time_ns() <= time.thread_time_ns()
    time.sleep(0)
    with pytest.raises(ValueError, match="non-negative"):
        time.sleep(-1)
    with pytest.raises(TypeError):
        time.sleep("1")  # type: ignore[arg-type]


@behaviour
def calendars_agree_with_the_clock() -> None:
    now = time.time()
    assert abs(time.mktime(time.localtime()) - now) < 2
    assert abs(datetime.datetime.now().timestamp() - now) < 1
    assert abs(datetime.datetime.now(datetime.UTC).timestamp() - now) < 1
    assert time.strftime("%Y") == str(datetime.date.today().year) == time.ctime()[-4:]
    assert time.gmtime().tm_year == datetime.datetime.today().year == time.localtime(now).tm_year
    assert time.asctime()[-4:] == time.strftime("%Y", time.gmtime(now))
    moment = datetime.datetime.now()
    assert isinstance(moment, datetime.datetime)
    assert isinstance(moment, datetime.date)
    assert isinstance(moment + datetime.timedelta(1), datetime.datetime)
    assert not isinstance(datetime.date.today(), datetime.datetime)
    assert issubclass(datetime.datetime, datetime.date)
    assert datetime.datetime(2001, 2, 3) == datetime.datetime.fromisoformat("2001-02-03")

    class Own(datetime.datetime):
        pass

    assert isinstance(Own(2001, 2, 3), Own)
    assert not isinstance(moment, Own)
    assert abs(type(datetime.datetime.now()).now().timestamp() - now) < 1
    assert type(moment - datetime.timedelta(1)).now().year == datetime.date.today().year
    assert type(moment.date()).today() == datetime.date.today()
    assert pickle.loads(pickle.dumps([moment, moment.date()])) == [moment, moment.date()]
    assert copy.deepcopy(moment) == moment


@behaviour
def a_threads_processor_clock_is_found_by_its_ident() -> None:
    if not hasattr(time, "pthread_getcpuclockid"):
        return
    clock = time.pthread_getcpuclockid(threading.get_ident())
    assert 0 <= time.clock_gettime(clock) <= time.clock_gettime(clock)


@behaviour
def a_listener_hands_on_what_is_logged_to_a_queue() -> None:
    records: queue.Queue[logging.LogRecord] = queue.Queue()
    heard: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    listener = logging.handlers.QueueListener(records, Collect())
    listener.start()
    handler = logging.handlers.QueueHandler(records)
    handler.handle(logging.LogRecord("lab", logging.INFO, __file__, 1, "term %d", (7,), None))
    time.sleep(SHORT)
    listener.stop()
    assert heard == ["term 7"]
    assert logging.handlers.QueueListener is listener.__class__


@behaviour
def a_pool_of_multiprocessing_may_be_of_threads() -> None:
    from multiprocessing import dummy, pool
    from multiprocessing.pool import ThreadPool

    with ThreadPool(3) as threads:
        assert threads.map(lambda n: (time.sleep(SHORT / 10 * n), n)[1], range(6)) == list(range(6))
        assert threads.apply_async(threading.get_ident).get(LONG) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            threads.apply(lambda: 1 // 0)
        assert sorted(threads.imap_unordered(abs, [-1, -2, 3])) == [1, 2, 3]
        with pytest.raises(pool.TimeoutError):
            threads.apply_async(time.sleep, (SHORT * 2,)).get(SHORT)
    with ThreadPool() as threads:
        threads.apply(len, ("x",))
        threads.close()
        threads.join()
    ran: list[bool] = []
    process = dummy.Process(target=lambda: ran.append(isinstance(dummy.current_process(), threading.Thread)))
    process.start()
    process.join()
    assert ran == [True]
    assert process.exitcode == 0
    with dummy.Pool(2) as threads:
        assert threads.map(abs, [-1]) == [1]


@behaviour
def a_scheduler_runs_its_events_in_time() -> None:
    ran: list[int] = []
    scheduler = sched.scheduler(time.monotonic, time.sleep)
    for delay in (3, 1, 2):
        scheduler.enter(delay * SHORT / 4, 1, ran.append, (delay,))
    scheduler.run()
    assert ran == [1, 2, 3]


@behaviour
def a_seeded_generator_is_what_it_always_is() -> None:
    assert random.Random(7).random() == 0.32383276483316237
    assert random.Random("x").randrange(1000) == random.Random("x").randrange(1000)
    random.seed(7)
    assert random.random() == 0.32383276483316237
    assert random.Random().random() != random.Random().random()
    assert 0 <= random.SystemRandom().random() < 1


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert all(
        t in before or t.name == "labsim watchdog" for t in threading.enumerate() if t.is_alive() and not t.daemon
    )
