"""Virtual time for ordinary threaded Python: a seeded world in which `time.sleep` costs nothing and every run repeats.

    world = labsim.World("seed 7", fresh=[folder])
    with world:
        program = world.load("program", folder / "program.py")
        world.run(program.main)                # other threads run meanwhile
        print(world.now(), world.events)

The program is unmodified: it uses threading, time, queue, concurrent.futures, sched, random, datetime as always. Inside
the world those names mean modules that stand on a simulated clock and scheduler, in a single OS thread.

What holds in a world:

- Time passes only while everybody waits, apart from four microseconds for each scheduling event. Two minutes of
  sleeping take no time; computing takes no virtual time.
- Which thread goes next is drawn from the seed, at every acquire and release of a lock (and so at whatever is built on
  locks: conditions, events, queues, pools), thread start, sleep, and look at a clock or at a thread that has not ended.
  Between these points no other thread can run.
- The same seed and the same program give the same run, event by event, in any process and on any machine; programs that
  take order from a set of strings, or chance from the operating system, do not (`labsim.trace.compare` tells). Python
  3.11, 3.12 and 3.13 have the same run, too, unless the program uses what the library does otherwise in these: the
  workers of its thread pools, above all.
- An uncaught exception in a thread goes to the world's own `threading.excepthook` (from a thread that was started
  through `_thread` to `sys.unraisablehook`, as always). Exceptions that are not Exception, with which pytest and Ctrl-C
  end a test, and what quitting a debugger raises, come out of `run` whichever thread they arrive in.
- Each world executes the modules below its `fresh` folders anew. While it is open, `sys.modules` names those, Python's
  garbage collector rests, and `dataclasses` remembers what it compiles; afterwards all is as before. Nothing else in
  the process changes, and real threads go on as ever.
- Leaving the world ends every thread wherever it stands, running its `finally` blocks but letting it block no more, and
  forgets everything. A lock that outlives it can still be taken and released; what would block raises.
- `breakpoint()` stops the whole world, and time with it.

A world fails, with an exception out of `run`, by Deadlock (all wait and no timer is set), Spin (a thread computes for
seconds without reaching the scheduler), Endless (virtual time beyond the limit), Stuck (a call of the main thread takes
longer than its `patience`) or Unsupported (asyncio, sockets, processes, signals). A world that has failed runs nothing
any more.

With `watch`, a world looks for data races in the files that it names (labsim.race): `world.detector.races`.

What is not virtual: `logging` is the process's own, so its records carry real times and thread names; os.urandom,
uuid4 and secrets. A machine has four processors, as pools ask for their number. A real thread that uses a lock of the
world's makes it fail with Unsupported. Code in C that blocks blocks everything.

Worlds are opened one at a time, each in one `with` statement, and used by the thread that opened them.
"""

from __future__ import annotations

from labsim.errors import Deadlock, Endless, SimulationError, Spin, Stuck, Unsupported
from labsim.patience import Patience
from labsim.world import World

__all__ = ["Deadlock", "Endless", "Patience", "SimulationError", "Spin", "Stuck", "Unsupported", "World"]
