"""Finds data races in a world: two accesses to one variable, one of them a write, that nothing orders.

What counts as order is what FastTrack says (Flanagan and Freund, PLDI 2009). One step comes before another

- when one thread does both, in this order;
- when the one releases a lock, and the other is the next acquire of that lock;
- when the one starts a thread, and the other is that thread's first step;
- when the one is a thread's last step, and the other is the return of a join of that thread;
- and when steps between them are ordered in these ways.

Everything in `threading`, `queue` and the pools is made of the world's locks, so it orders as it should. Time that
passes orders nothing. Nor do the locks in which the library guards its own lists, of threads and of pools: everybody
takes those.

Two accesses that are ordered are never reported. If two of a variable's accesses in this run are not, the variable is
reported, whichever thread happened to come first; but not with each pair of places. Of what a thread does between two
releases only its first read and its first write of the variable are compared with what others do, and only with the
last write and the reads since.

A variable is an attribute of an object, a module or a class; a variable that functions share; an element of a list; the
order and number of a list's elements; a dict, a set or a deque as a whole. `labsim.rewrite` has the program tell of
each access before it happens. Each is also a scheduling point: with a probability `share`, another thread runs first.

How it is kept cheap. An epoch is an integer: how often its thread has released something, and below that the thread's
slot. A thread's clock is a list with the last epoch that it knows of, by slot; "ordered" is one comparison. Most
accesses are not a thread's first since its last release, and cost two comparisons. The slot of a thread that has ended
goes to one whose starter knows of all that the dead thread did, so clocks stay as short as there are threads alive.
Variables are forgotten with their objects: a weak reference says when, or, where an object has none, a strong one does
as soon as it is the last.
"""

from __future__ import annotations

import enum
import linecache
import re
import sys
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from operator import le
from random import Random
from types import CodeType, FrameType, FunctionType, MemberDescriptorType, ModuleType
from typing import Any

from labsim.holding import attribute
from labsim.primitives import Local
from labsim.races import Access, Race, shorter, shown
from labsim.rewrite import HELPERS, MODULE_CELL, OF_CONTAINERS, PREFIX, instrument
from labsim.scheduler import SECOND, Scheduler, SimThread, stretches
from labsim.stacks import LABSIM, is_library

__all__ = ["Detector", "Race"]

__tracebackhide__ = True  # for pytest: a failure points at the line that called, not in here

_SLOTS = 20  # bits of an epoch
_SLOT = (1 << _SLOTS) - 1
_NEXT = 1 << _SLOTS  # from one epoch of a thread to its next

_DEPTH = 10  # frames that are remembered of each access
_SHOWN = 6  # and shown
_READERS = 8  # of one variable, before those are looked for that others stand for
_DEAD = 64  # slots of dead threads that are tried for a new one
_MOST_RACES = 100  # in one world: a program without any locks has enough with these

_Stack = list[Any]  # code and instruction of each frame, innermost first, in turns


# --- what is remembered ---------------------------------------------------------------------------------------------


class Cell:
    """Stands for one activation of a function that shares variables with inner ones, or for a module."""

    __slots__ = ("__weakref__", "module", "owner")

    def __init__(self, owner: str, module: bool = False) -> None:
        self.owner = owner
        self.module = module

    def name(self, variable: str) -> str:
        return f"{self.owner}.{variable}" if self.module else f"the variable {variable} of {self.owner}"


class Actor:
    """What the detector knows of a thread."""

    __slots__ = ("clock", "epoch", "held", "last", "learned", "slot", "started", "thread")

    def __init__(
        self, thread: SimThread, slot: int, clock: list[int], learned: list[int], started: _Stack | None
    ) -> None:
        self.thread = thread
        self.slot = slot
        self.epoch = clock[slot]
        self.clock = clock
        # The releases that `clock` was learnt from. Another thread that comes after all of these knows everything that
        # this one does, except what this one has done itself.
        self.learned = learned
        self.held: tuple[Any, ...] = ()  # locks
        self.last = 0  # the epoch of its last access
        self.started = started

    def knows(self, epoch: int) -> bool:
        """Whether what happened in that epoch comes before what this thread does now."""
        slot = epoch & _SLOT
        return slot < len(self.clock) and self.clock[slot] >= epoch

    def learn(self, epoch: int, clock: list[int]) -> None:
        """Come after a release, of that epoch, whose thread knew `clock`."""
        mine = self.clock
        longer = len(mine) - len(clock)
        new = [e for e in self.learned if (slot := e & _SLOT) >= len(clock) or clock[slot] < e]
        if not new:  # nothing that the releaser did not know; so it is mostly, and copying is quick
            self.clock = clock.copy()
            if self.slot >= len(clock):
                self.clock += [0] * (self.slot + 1 - len(clock))
            self.clock[self.slot] = self.epoch
        else:
            if longer < 0:
                mine.extend([0] * -longer)
            self.clock = list(map(max, mine, clock))
            if longer > 0:
                self.clock += mine[len(clock) :]
        self.learned = [*new, epoch]


_Seen = tuple[Actor, _Stack, tuple[Any, ...], bool]  # who, where, with what locks, whether it was a write


class _State:
    """The last write of a variable, and the reads since. An epoch of 0 is before everything."""

    __slots__ = ("read", "read_seen", "readers", "write", "write_seen")

    def __init__(self) -> None:
        self.write = 0
        self.write_seen: _Seen | None = None
        self.read = 0  # the last one
        self.read_seen: _Seen | None = None
        self.readers: dict[int, tuple[int, _Seen]] | None = None  # by slot, once reads are not ordered


_IGNORED = _State()  # what is none of our business: methods, constants of classes


class _Fields(dict[Any, _State]):
    """The attributes of an object, by name."""

    __slots__ = ("kind", "ref")

    kind: int
    ref: Callable[[], object]


_NOTHING, _INSTANCE, _LIST, _WHOLE, _MODULE, _CLASS, _CELL, _VARS = range(8)


class _ListFields(_Fields):
    """A list's, with its elements by index.

    Whoever uses the list reads its `structure`, and who changes the order or the number of its elements writes it.
    Someone who reads all elements reads `elements`, and someone who sets one adds to `set_by`.
    """

    __slots__ = ("elements", "set_by", "structure")

    def __init__(self) -> None:
        self.structure = _State()
        self.elements = _State()
        self.set_by: dict[int, tuple[int, _Seen]] = {}


class _WholeFields(_Fields):
    """Those of a dict, set or deque, which is one variable: its `structure`."""

    __slots__ = ("structure",)

    def __init__(self) -> None:
        self.structure = _State()


class _VarsFields(_Fields):
    """Of an object's `__dict__`: the elements are the object's attributes."""

    __slots__ = ("of",)

    of: _Fields


_PLAIN = frozenset((bool, bytes, float, int, str, type(None)))

_MUTATING: dict[type, frozenset[str]] = {
    cls: frozenset(names.split())
    for cls, names in {
        list: "append clear extend insert pop remove reverse sort __setitem__ __delitem__ __iadd__",
        dict: "clear move_to_end pop popitem setdefault subtract update __setitem__ __delitem__",
        set: """add clear difference_update discard intersection_update pop remove symmetric_difference_update
                update""",
        deque: "append appendleft clear extend extendleft insert pop popleft remove reverse rotate",
        bytearray: "append clear extend insert pop remove reverse",
    }.items()
}


class Detector:
    """The races of one world. `describe` says which one an object is ("server 2"), or ""."""

    def __init__(
        self,
        scheduler: Scheduler,
        seed: str,
        *,
        watch: Callable[[str], bool],
        share: float,
        describe: Callable[[Any], str],
    ) -> None:
        self.races: list[Race] = []
        self._watch = watch
        self._scheduler = scheduler
        self._describe = describe
        self._draw = Random(f"{seed}:accesses").getrandbits
        self._stretches = stretches(share)
        self._never = share == 0
        self._pairs: set[tuple[str, frozenset[str]]] = set()
        self._slots = 1
        self._dead: deque[Actor] = deque()
        self._shadows: dict[int, _Fields] = {}  # by id(); none of them outlives its object
        self._kept: dict[int, object] = {}  # those that know no weak references
        self._sweep_at = 1000
        self._kinds: dict[type, int] = {}
        self._mutating: dict[type, frozenset[str]] = {}
        scheduler.main.actor = Actor(scheduler.main, 0, [_NEXT], [], None)
        scheduler.observer = self

    def close(self) -> None:
        self._shadows.clear()
        self._kept.clear()
        self._dead.clear()

    # -- what orders -------------------------------------------------------------------------------------------------

    def started(self, thread: SimThread) -> None:
        """The current thread has made another one."""
        parent = self._scheduler.current.actor
        slot, epoch = self._new_slot(parent)
        clock = parent.clock.copy()
        clock.extend([0] * (slot + 1 - len(clock)))
        clock[slot] = epoch
        thread.actor = Actor(thread, slot, clock, [parent.epoch], _stack(sys._getframe(2), 2 * _DEPTH))
        self._next_epoch(parent)

    def _new_slot(self, parent: Actor) -> tuple[int, int]:
        dead = self._dead
        for _ in range(min(len(dead), _DEAD)):
            actor = dead.popleft()
            if parent.knows(actor.last | actor.slot) and _at_most(actor, parent):
                return actor.slot, actor.epoch + _NEXT
            dead.append(actor)
        self._slots += 1
        return self._slots - 1, _NEXT | (self._slots - 1)

    def ended(self, thread: SimThread) -> None:
        self._dead.append(thread.actor)

    def released(self, lock: Any) -> None:
        """The current thread is about to let go of a lock."""
        actor = self._scheduler.current.actor
        held = actor.held
        if held:
            actor.held = held[:-1] if held[-1] is lock else tuple(other for other in held if other is not lock)
        lock.order = actor.epoch, actor.clock.copy()
        actor.learned = [actor.epoch]
        self._next_epoch(actor)

    def acquired(self, lock: Any) -> None:
        actor = self._scheduler.current.actor
        if lock.made is not None:
            actor.held = (*actor.held, lock)
        self.follows(lock)

    def follows(self, lock: Any) -> None:
        """The current thread comes after the last release of the lock."""
        if lock.order:
            epoch, clock = lock.order
            actor = self._scheduler.current.actor
            if not actor.knows(epoch):
                actor.learn(epoch, clock)

    @staticmethod
    def _next_epoch(actor: Actor) -> None:
        actor.epoch += _NEXT
        actor.clock[actor.slot] = actor.epoch

    # -- the program ------------------------------------------------------------------------------------------------

    def watches(self, path: str) -> bool:
        return self._watch(path)

    def code(self, path: str) -> CodeType:
        """Of a file that is watched: rewritten, to be executed with `helpers` and `variables` at hand."""
        return instrument(path)

    def variables(self, module: str) -> dict[str, object]:
        return {MODULE_CELL: Cell(module, module=True)}

    # -- what is accessed --------------------------------------------------------------------------------------------

    def helpers(self) -> dict[str, Callable[..., Any]]:
        """The functions that `labsim.rewrite` has put calls of into the program."""
        scheduler = self._scheduler
        shadows = self._shadows
        left = self._next_stretch()  # accesses until another thread goes first

        def point() -> None:
            """Before each access, another thread may go first."""
            nonlocal left
            left -= 1
            if not left:
                left = self._next_stretch()
                scheduler.preempt("access")

        # These two see most accesses, and so do all of it themselves.

        def read(obj: Any, name: str) -> Any:
            nonlocal left
            left -= 1
            if not left:
                left = self._next_stretch()
                scheduler.preempt("access")
            fields = shadows.get(id(obj))
            if fields is None:
                fields = self._adopt(obj)
            if fields is not None:
                state = fields.get(name) or self._first_read(obj, fields, name)
                epoch = scheduler.current.actor.epoch
                if state.read != epoch and state.write != epoch and state is not _IGNORED:
                    self._read(state, epoch, obj, name)
            return obj

        def write(obj: Any, name: str) -> Any:
            nonlocal left
            left -= 1
            if not left:
                left = self._next_stretch()
                scheduler.preempt("access")
            fields = shadows.get(id(obj))
            if fields is None:
                fields = self._adopt(obj)
            if fields is not None:
                state = fields.get(name)
                if state is None or state is _IGNORED:
                    state = self._first_write(obj, fields, name)
                epoch = scheduler.current.actor.epoch
                if state.write != epoch and state is not _IGNORED:
                    self._write(state, epoch, obj, name)
            return obj

        def augment(obj: Any, name: str) -> Any:
            write(obj, name)
            value = attribute(obj, name)
            if value is not None:
                self._change(value)
            return obj

        def wrote(obj: Any, name: str, value: Any) -> Any:
            augment(obj, name)
            return value

        def item(obj: Any, index: Any) -> Any:
            point()
            self._read_item(obj, index)
            return index

        def get_item(obj: Any, index: Any) -> Any:
            return obj[item(obj, index)]

        def set_item(obj: Any, index: Any) -> Any:
            point()
            self._write_item(obj, index)
            return index

        def del_item(obj: Any, index: Any) -> Any:
            point()
            self._change(obj, index)
            return index

        def wrote_item(obj: Any, index: Any, value: Any) -> Any:
            set_item(obj, index)
            return value

        def method(obj: Any, name: str) -> Any:
            kind = self._kinds.get(type(obj)) or self._kind_of(type(obj))
            if (kind != _LIST and kind != _WHOLE) or name not in OF_CONTAINERS:
                return read(obj, name)
            point()
            if name in self._mutating[type(obj)]:
                self._change(obj)
            else:
                self._read_all(obj)
            return obj

        def calls(obj: Any, name: str, argument: Any) -> Any:
            method(obj, name)
            return argument

        def whole(obj: Any) -> Any:
            if self._kinds.get(type(obj)) or self._kind_of(type(obj)):
                point()
                self._read_all(obj)
            return obj

        def length(obj: Any) -> Any:
            if self._kinds.get(type(obj)) or self._kind_of(type(obj)):
                point()
                self._read_structure(obj)
            return obj

        def deep(obj: Any) -> Any:
            point()
            self.read_deep(obj)
            return obj

        def changes(obj: Any) -> Any:
            point()
            self._change(obj)
            return obj

        def grows(obj: Any, value: Any) -> Any:
            self._change(obj)
            return value

        def each(obj: Any) -> Any:
            whole(obj)
            return steps(obj) if self._kind_of(type(obj)) in (_LIST, _WHOLE) else obj

        def steps(obj: Any) -> Iterator[Any]:
            for element in obj:
                yield element
                whole(obj)

        def get(cell: Any, name: str) -> bool:
            read(cell, name)
            return True

        def put(value: Any, cell: Any, name: str) -> Any:
            write(cell, name)
            return value

        def read_by_name(obj: Any, name: str, *default: Any) -> Any:
            return getattr(read(obj, name), name, *default)

        def write_by_name(obj: Any, name: str, value: Any) -> None:
            setattr(write(obj, name), name, value)

        def delete_by_name(obj: Any, name: str) -> None:
            delattr(write(obj, name), name)

        def look_for_name(obj: Any, name: str) -> bool:
            return hasattr(read(obj, name), name)

        def variables(obj: Any) -> Any:
            read(obj, "__dict__")
            return vars(obj)

        helpers: dict[str, Callable[..., Any]] = {
            "read": read,
            "write": write,
            "augment": augment,
            "wrote": wrote,
            "item": item,
            "set_item": set_item,
            "del_item": del_item,
            "get_item": get_item,
            "wrote_item": wrote_item,
            "method": method,
            "calls": calls,
            "whole": whole,
            "length": length,
            "deep": deep,
            "changes": changes,
            "each": each,
            "grows": grows,
            "get": get,
            "put": put,
            "bumps": put,
            "cell": Cell,
            "slice": slice,
            "getattr": read_by_name,
            "setattr": write_by_name,
            "delattr": delete_by_name,
            "hasattr": look_for_name,
            "vars": variables,
        }
        return {PREFIX + name: helpers[name] for name in HELPERS}

    def _next_stretch(self) -> int:
        return -1 if self._never else self._stretches[self._draw(8)]

    def _read_item(self, obj: Any, index: Any) -> None:
        fields = self._fields(obj)
        if isinstance(fields, _ListFields):
            epoch = self._scheduler.current.actor.epoch
            if not isinstance(index, int):
                self._read_all(obj)
                return
            structure = fields.structure
            seen = None
            if structure.read != epoch and structure.write != epoch:
                seen = self._seen(False)
                self._read(structure, epoch, obj, "[]", seen)
            if index < 0:
                index += len(obj)
            state = fields.get(index)
            if state is None:
                state = fields[index] = _State()
            if state.read != epoch and state.write != epoch:
                self._read(state, epoch, obj, index, seen)
        elif isinstance(fields, _WholeFields):
            if isinstance(obj, defaultdict) and index not in obj:
                self._change(obj)
            else:
                self._read_all(obj)
        elif isinstance(fields, _VarsFields) and isinstance(index, str):
            self._read_field(fields, index)

    def _write_item(self, obj: Any, index: Any) -> None:
        fields = self._fields(obj)
        if isinstance(fields, _ListFields) and isinstance(index, int):
            epoch = self._scheduler.current.actor.epoch
            structure = fields.structure
            if structure.read != epoch and structure.write != epoch:
                self._read(structure, epoch, obj, "[]")
            if index < 0:
                index += len(obj)
            state = fields.get(index)
            if state is None:
                state = fields[index] = _State()
            if state.write != epoch:
                seen = self._seen(True)
                self._write(state, epoch, obj, index, seen)
                self._check_reads(fields.elements, obj, index, seen)
                fields.set_by[epoch & _SLOT] = epoch, seen
        elif isinstance(fields, _VarsFields) and isinstance(index, str):
            self._write_field(fields, index)
        else:
            self._change(obj)

    def _read_all(self, obj: Any) -> None:
        fields = self._fields(obj)
        epoch = self._scheduler.current.actor.epoch
        if isinstance(fields, (_ListFields, _WholeFields)):
            structure = fields.structure
            seen = None
            if structure.read != epoch and structure.write != epoch:
                seen = self._seen(False)
                self._read(structure, epoch, obj, "[]", seen)
            if isinstance(fields, _ListFields) and fields.elements.read != epoch:
                seen = seen or self._seen(False)
                self._read(fields.elements, epoch, obj, "[]", seen)
                self._against(fields.set_by, obj, "[]", seen)
        elif isinstance(fields, _VarsFields):
            for name in obj:
                self._read_field(fields, name)

    def _read_structure(self, obj: Any) -> None:
        fields = self._fields(obj)
        if isinstance(fields, (_ListFields, _WholeFields)):
            epoch = self._scheduler.current.actor.epoch
            structure = fields.structure
            if structure.read != epoch and structure.write != epoch:
                self._read(structure, epoch, obj, "[]")

    def _change(self, obj: Any, index: Any = None) -> None:
        """The elements of a container change, in number or order."""
        fields = self._fields(obj)
        if isinstance(fields, (_ListFields, _WholeFields)):
            epoch = self._scheduler.current.actor.epoch
            structure = fields.structure
            if structure.write != epoch:
                self._write(structure, epoch, obj, "[]")
            if isinstance(fields, _ListFields):
                # Whoever is ordered after this is ordered after all that came before.
                for key in [key for key in fields if isinstance(key, int)]:
                    del fields[key]
                fields.elements = _State()
                fields.set_by.clear()
        elif isinstance(fields, _VarsFields) and isinstance(index, str):
            self._write_field(fields, index)

    def _read_field(self, fields: _VarsFields, name: str) -> None:
        obj = fields.of.ref()
        state = fields.of.get(name) or self._first_read(obj, fields.of, name)
        if state is not _IGNORED:
            self._read(state, self._scheduler.current.actor.epoch, obj, name)

    def _write_field(self, fields: _VarsFields, name: str) -> None:
        obj = fields.of.ref()
        state = fields.of.get(name)
        if state is None or state is _IGNORED:
            state = fields.of[name] = _State()
        self._write(state, self._scheduler.current.actor.epoch, obj, name)

    def read_deep(self, obj: Any) -> None:
        """Everything that can be reached from an object, as an encoder reads it."""
        self._deep(obj, set(), self._seen(False))

    def _deep(self, obj: Any, known: set[int], seen: _Seen) -> None:
        kind = self._kind_of(type(obj))
        if id(obj) in known or kind in (_MODULE, _CLASS) or (kind == _NOTHING and not isinstance(obj, tuple)):
            return
        known.add(id(obj))
        epoch = seen[0].epoch
        fields = self._fields(obj)
        if isinstance(fields, (_ListFields, _WholeFields)):
            if fields.structure.read != epoch and fields.structure.write != epoch:
                self._read(fields.structure, epoch, obj, "[]", seen)
            if isinstance(fields, _ListFields):
                if fields.elements.read != epoch:
                    self._read(fields.elements, epoch, obj, "[]", seen)
                self._against(fields.set_by, obj, "[]", seen)
        if isinstance(obj, dict):
            obj = obj.values()
        if kind != _INSTANCE:
            for part in obj:
                if type(part) not in _PLAIN:
                    self._deep(part, known, seen)
            return
        assert fields is not None
        for name, value in getattr(obj, "__dict__", {}).items():
            state = fields.get(name) or self._first_read(obj, fields, name)
            if state.read != epoch and state.write != epoch and state is not _IGNORED:
                self._read(state, epoch, obj, name, seen)
            if type(value) not in _PLAIN:
                self._deep(value, known, seen)

    def write_attributes(self, obj: Any) -> None:
        """Every attribute of an object, as a decoder writes them that fills it."""
        fields = self._fields(obj)
        if fields is None or fields.kind != _INSTANCE:
            return
        seen = self._seen(True)
        for name in getattr(obj, "__dict__", ()):
            state = fields.get(name)
            if state is None or state is _IGNORED:
                state = self._first_write(obj, fields, name)
            if state.write != seen[0].epoch and state is not _IGNORED:
                self._write(state, seen[0].epoch, obj, name, seen)

    # -- FastTrack ---------------------------------------------------------------------------------------------------

    def _seen(self, write: bool) -> _Seen:
        """The access that is under way, for all the variables that it concerns."""
        actor = self._scheduler.current.actor
        return actor, _stack(sys._getframe(2), _DEPTH), actor.held, write

    def _read(self, state: _State, epoch: int, obj: Any, name: Any, seen: _Seen | None = None) -> None:
        """A thread's first read of a variable in its epoch."""
        actor = self._scheduler.current.actor
        if seen is None:
            seen = actor, _stack(sys._getframe(2), _DEPTH), actor.held, False
        actor.last = epoch
        clock = actor.clock
        write = state.write
        if write:
            slot = write & _SLOT
            if slot >= len(clock) or clock[slot] < write:
                self._report(obj, name, state.write_seen, seen)
        last = state.read
        if state.readers is not None:
            self._add_reader(state.readers, actor, epoch, seen)
        elif last:
            slot = last & _SLOT
            if slot >= len(clock) or clock[slot] < last:
                assert state.read_seen is not None
                state.readers = {slot: (last, state.read_seen), actor.slot: (epoch, seen)}
        state.read = epoch
        state.read_seen = seen

    @staticmethod
    def _add_reader(readers: dict[int, tuple[int, _Seen]], actor: Actor, epoch: int, seen: _Seen) -> None:
        if len(readers) > _READERS:
            for slot in [slot for slot, (known, _) in readers.items() if actor.knows(known)]:
                del readers[slot]  # a write that is ordered after this read is ordered after those
        readers[actor.slot] = epoch, seen

    def _write(self, state: _State, epoch: int, obj: Any, name: Any, seen: _Seen | None = None) -> None:
        actor = self._scheduler.current.actor
        if seen is None:
            seen = actor, _stack(sys._getframe(2), _DEPTH), actor.held, True
        actor.last = epoch
        clock = actor.clock
        write = state.write
        if write:
            slot = write & _SLOT
            if slot >= len(clock) or clock[slot] < write:
                self._report(obj, name, state.write_seen, seen)
        last = state.read
        if last:
            if state.readers is not None:
                self._against(state.readers, obj, name, seen)
                state.readers = None
            else:
                slot = last & _SLOT
                if slot >= len(clock) or clock[slot] < last:
                    self._report(obj, name, state.read_seen, seen)
            state.read = 0
        state.write = epoch
        state.write_seen = seen

    def _against(self, accesses: dict[int, tuple[int, _Seen]], obj: Any, name: Any, seen: _Seen) -> None:
        """Report those accesses that do not come before the current one, `seen`."""
        actor = self._scheduler.current.actor
        for epoch, other in accesses.values():
            if not actor.knows(epoch):
                self._report(obj, name, other, seen)

    def _check_reads(self, state: _State, obj: Any, name: Any, seen: _Seen) -> None:
        """A write of one element, against those who have read all."""
        actor = self._scheduler.current.actor
        if state.readers is not None:
            self._against(state.readers, obj, name, seen)
        elif state.read and not actor.knows(state.read):
            self._report(obj, name, state.read_seen, seen)

    # -- objects and their variables ---------------------------------------------------------------------------------

    def _kind_of(self, cls: type) -> int:
        kind = self._kinds.get(cls)
        if kind is None:
            kind = self._kinds[cls] = _kind(cls)
            if kind in (_LIST, _WHOLE):
                self._mutating[cls] = frozenset().union(
                    *(names for base, names in _MUTATING.items() if issubclass(cls, base))
                )
        return kind

    def _fields(self, obj: Any) -> _Fields | None:
        fields = self._shadows.get(id(obj))
        return self._adopt(obj) if fields is None else fields

    def _adopt(self, obj: Any) -> _Fields | None:
        """Begin to remember an object, unless there is nothing in it to share."""
        kind = self._kind_of(type(obj))
        if kind == _NOTHING or self._scheduler.over:
            return None
        fields: _Fields
        if kind == _LIST:
            fields = _ListFields()
        elif kind == _WHOLE:
            fields = _WholeFields()
        elif kind == _MODULE and MODULE_CELL in vars(obj):
            cell = vars(obj)[MODULE_CELL]
            shared = self._fields(cell)
            assert shared is not None
            self._shadows[id(obj)] = shared
            self._kept[id(obj)] = obj
            return shared
        else:
            fields = _Fields()
        fields.kind = kind
        self._remember(obj, fields)
        return fields

    def _remember(self, obj: Any, fields: _Fields) -> None:
        key = id(obj)
        shadows = self._shadows
        try:
            fields.ref = weakref.ref(obj, lambda _: shadows.pop(key, None))
        except TypeError:
            fields.ref = lambda: self._kept.get(key)
            self._kept[key] = obj
            if len(self._kept) >= self._sweep_at:
                self._sweep()
        shadows[key] = fields

    def _sweep(self) -> None:
        """Forget the objects that nobody else holds any more."""
        for key in list(self._kept):
            if sys.getrefcount(self._kept[key]) == _ONLY_KEPT:
                del self._kept[key]
                self._shadows.pop(key, None)
        self._sweep_at = max(1000, 2 * len(self._kept))

    def _first_read(self, obj: Any, fields: _Fields, name: str) -> _State:
        """The state of an attribute that is read for the first time; `_IGNORED` when it is no variable."""
        state = _State()
        if fields.kind == _CELL:
            pass
        elif fields.kind in (_MODULE, _CLASS):
            if not _is_data(vars(obj).get(name)):
                state = _IGNORED
        elif name == "__dict__":
            self._alias(obj, fields)
            state = _IGNORED
        elif name not in getattr(obj, "__dict__", ()):
            found = _of_class(type(obj), name)
            if found is None:
                return _IGNORED  # for the moment: it has no such attribute
            if not isinstance(found, MemberDescriptorType) and not _is_data(found):
                state = _IGNORED  # a method; while what is data will be the object's own as soon as somebody writes it
        fields[name] = state
        return state

    def _first_write(self, obj: Any, fields: _Fields, name: str) -> _State:
        found = _of_class(type(obj), name) if fields.kind not in (_CELL, _MODULE, _CLASS) else None
        if hasattr(type(found), "__set__") and not isinstance(found, MemberDescriptorType):
            state = _IGNORED  # a property
        else:
            state = _State()
        fields[name] = state
        return state

    def _alias(self, obj: Any, fields: _Fields) -> None:
        names = getattr(obj, "__dict__", None)
        if type(names) is dict:
            alias = _VarsFields()
            alias.kind, alias.of = _VARS, fields
            self._remember(names, alias)

    # -- reports -----------------------------------------------------------------------------------------------------

    def _report(self, obj: Any, name: Any, first: _Seen | None, second: _Seen) -> None:
        if first is None or self._scheduler.over or len(self.races) >= _MOST_RACES:
            return
        accesses = self._access(first), self._access(second)
        variable, owner, kind = self._name(obj, name, second)
        pair = variable, frozenset(a.place for a in accesses)
        if pair not in self._pairs:
            self._pairs.add(pair)
            self.races.append(Race(variable, owner, kind, self._scheduler.now() / SECOND, *accesses))

    def _access(self, seen: _Seen) -> Access:
        actor, stack, held, write = seen
        places = self._places(stack) or [("?", 0, "?")]
        file, line, function = places[0]
        started = self._places(actor.started or [], anywhere=True)
        return Access(
            write,
            actor.thread.name,
            file,
            line,
            function,
            linecache.getline(file, line).strip(),
            [shown(place) for place in self._up_to_outside(places)],
            [_name_of_lock(*lock.made) for lock in held if self._watch(lock.made[0].co_filename)],
            shown(started[0]) if started else "",
        )

    def _places(self, stack: _Stack, *, anywhere: bool = False) -> list[tuple[str, int, str]]:
        """The program's frames, beginning with the innermost in a file that was rewritten (or in any)."""
        places: list[tuple[str, int, str]] = []
        for code, instruction in zip(stack[::2], stack[1::2], strict=True):
            file = code.co_filename
            if file.startswith(LABSIM) or is_library(file) or not (places or anywhere or self._watch(file)):
                continue
            places.append((file, _line(code, instruction), code.co_qualname))
        return places

    def _up_to_outside(self, places: list[tuple[str, int, str]]) -> Iterator[tuple[str, int, str]]:
        """The frames of the files that are watched, and the one that has called those."""
        for place in places[:_SHOWN]:
            yield place
            if not self._watch(place[0]):
                return

    def _name(self, obj: Any, name: Any, seen: _Seen) -> tuple[str, str, str]:
        """What to call a variable: itself, which one, and of what kind it is."""
        if isinstance(obj, Cell):
            return obj.name(name), "", "variable"
        if isinstance(obj, ModuleType):
            return f"{obj.__name__}.{name}", "", _kind_of_value(vars(obj).get(name))
        if isinstance(name, str) and name != "[]":
            cls = obj if isinstance(obj, type) else type(obj)
            return f"{cls.__name__}.{name}", self._describe(obj), _kind_of_value(attribute(obj, name))
        element = f"[{name}]" if isinstance(name, int) else ""
        for fields in list(self._shadows.values()):
            holder = fields.ref() if fields.kind == _INSTANCE else None
            for variable, value in getattr(holder, "__dict__", {}).items():
                if value is obj:
                    return f"{type(holder).__name__}.{variable}{element}", self._describe(holder), "container"
        places = self._places(seen[1])
        where = f" used in {places[0][2]}" if places else ""
        return (
            f"an element of the {type(obj).__name__}{where}" if element else f"the {type(obj).__name__}{where}",
            "",
            "container",
        )


def _at_most(dead: Actor, parent: Actor) -> bool:
    """Whether `parent` knows of all that the dead thread did, and all that it knew."""
    clock = dead.clock
    clock[dead.slot] = dead.last
    return len(clock) <= len(parent.clock) and all(map(le, clock, parent.clock))


def _kind(cls: type) -> int:
    if cls is Cell:
        return _CELL
    if issubclass(cls, list):
        return _LIST
    if issubclass(cls, tuple(_MUTATING)):
        return _WHOLE
    if issubclass(cls, ModuleType):
        return _MODULE
    if issubclass(cls, enum.EnumMeta) or issubclass(cls, enum.Enum):
        return _NOTHING
    if issubclass(cls, type):
        return _CLASS
    if issubclass(cls, (FunctionType, Local)) or cls.__module__ in ("_thread", "builtins", "_struct", "re"):
        return _NOTHING
    return _INSTANCE if _has_variables(cls) else _NOTHING


def _has_variables(cls: type) -> bool:
    return cls.__dictoffset__ != 0 or any(
        isinstance(value, MemberDescriptorType) for base in cls.__mro__ for value in vars(base).values()
    )


def _of_class(cls: type, name: str) -> Any:
    for base in cls.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None


def _is_data(value: object) -> bool:
    """Whether what stands in a class or a module is a variable's value, and no function or the like."""
    return not (callable(value) or isinstance(value, ModuleType) or hasattr(type(value), "__get__"))


def _kind_of_value(value: object) -> str:
    if isinstance(value, bool):
        return "flag"
    return "container" if isinstance(value, tuple(_MUTATING)) else "variable"


def _stack(frame: FrameType | None, depth: int) -> _Stack:
    stack: _Stack = []
    while frame is not None and depth:
        code = frame.f_code
        if code.co_name == "_bootstrap_inner":  # of threading: whatever lies further out is labsim's
            break
        stack += code, frame.f_lasti
        frame = frame.f_back
        depth -= 1
    return stack


@lru_cache(maxsize=4096)
def _lines(code: CodeType) -> list[tuple[int, int, int | None]]:
    return list(code.co_lines())


def _line(code: CodeType, instruction: int) -> int:
    for start, end, line in _lines(code):
        if start <= instruction < end and line is not None:
            return line
    return code.co_firstlineno


def _name_of_lock(code: CodeType, instruction: int) -> str:
    """What the program calls a lock that it has made there: what it was assigned to."""
    line = _line(code, instruction)
    source = linecache.getline(code.co_filename, line)
    assigned = re.match(r"\s*(?:self\.)?([\w.]+)\s*(?::[^=]*)?=[^=]", source)
    return assigned[1] if assigned else f"the lock made at {shorter(code.co_filename)}:{line}"


def _references_when_only_kept() -> int:
    kept: dict[int, object] = {0: [object()]}
    return sys.getrefcount(kept[0])


_ONLY_KEPT = _references_when_only_kept()
