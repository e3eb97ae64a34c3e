"""What the judge and a player say to each other, and how it travels.

A frame is a message of one of the types below. It travels as msgpack behind its length in four bytes, over a stream
that belongs to one player. What arrives is checked against its type; nothing in it chooses what code runs. A stream
that carries anything else ends with FrameError, which says why.

Either side asks, and answers: a frame with an `id` that is not an answer is a question, and is answered by exactly one
frame with that id. Ids count up from 0, for each side and stream by itself. The order of a stream counts: a save holds
from before whatever follows it.

    judge to player                            answered by
        Load                                       Done, Mistake
        Make, Ask                                  Done, Raised
        Handle                                     Done (None: there is no reply), Mistake
        Where                                      Places
    player to judge
        Call                                       Done (None: no reply arrived), Mistake
        Put                                        Done (None: nobody took it in time)
        Declare, Save, Died, Complaint, Leak       not at all

RPC args and replies travel as the bytes that labgob made of them, so that the judge needs no class of the submission.
Which fields there are it is told (Declare), for the paper's rules and whoever else reads messages.
What the harness and a Raft hand to each other travels as a value in a field typed Any (`box`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

import labgob
from labrun.text import MAX_TEXT, shown

MAX_FRAME = 8 << 20  # bytes; the logs and snapshots of the lab's tests are below 1 MB
MAX_VALUE = 1 << 16  # bytes of a box; decoded, it may take 80 times the room
MAX_ANSWER = 10_000  # bytes of the box that a question of the harness is answered with
MAX_SNAPSHOT = 1 << 20  # bytes; the harness decodes it, too
MAX_TIMEOUT = 1e6  # s
MAX_NAME = 200  # characters
MAX_FIELDS = 50  # of a message's class

Id = Annotated[int, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Long = Annotated[str, msgspec.Meta(max_length=5 * MAX_TEXT)]  # tracebacks
Value = Annotated[bytes, msgspec.Meta(max_length=MAX_VALUE)]  # a box
Snapshot = Annotated[bytes, msgspec.Meta(max_length=MAX_SNAPSHOT)]
Class = tuple[Name, Name]  # module and qualified name
Plain = bool | int | float | Name | None
Fields = Annotated[list[tuple[Name, Plain]], msgspec.Meta(max_length=MAX_FIELDS)]  # names and defaults; None: another


class FrameError(Exception):
    """The other side has sent what is no frame, or there is one that cannot be sent."""


class Frame(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The base of all frames."""


# --- questions of the judge ----------------------------------------------------------------------------------------


class Load(Frame, frozen=True):
    """Load the solution for server `me`; `random` is seeded with `seed` before.

    `paths` and `rest` are the fields of a Solution. Paths travel as bytes, for they may be no UTF-8.
    """

    id: Id
    me: int
    seed: str
    paths: dict[str, bytes]
    rest: dict[str, str | bool]


class Make(Frame, frozen=True):
    """Make the server, with n ends, from what it has saved. The answer's value is a description (`Made`)."""

    id: Id
    n: int
    state: bytes
    snapshot: bytes


class Ask(Frame, frozen=True):
    """Call a method of what Make returned; `args` is the box of a tuple, the answer's value that of the result."""

    id: Id
    method: str
    args: bytes


class Handle(Frame, frozen=True):
    """Run an RPC handler; the answer's value is the encoded reply."""

    id: Id
    svc_meth: str
    args_type: Class
    request: bytes
    reply_type: Class


class Where(Frame, frozen=True):
    """Where do the threads stand? `about` is a question that waits for its answer, or None."""

    id: Id
    about: Id | None


# --- what a player says -------------------------------------------------------------------------------------------


class Call(Frame, frozen=True):
    """Carry a request through this server's end number `end`."""

    id: Id
    end: Id
    svc_meth: Text
    args_type: Class
    request: bytes
    reply_type: Class


class Declare(Frame, frozen=True):
    """What the fields of a message's class are: name, default, and the dataclass that one holds a list of, if any."""

    about: Class
    fields: Annotated[list[tuple[Name, Plain, tuple[Name, Fields] | None]], msgspec.Meta(max_length=MAX_FIELDS)]


class Put(Frame, frozen=True):
    """Put an ApplyMsg on applyCh; `odd` describes what is none. `command` is a box."""

    id: Id
    block: bool
    timeout: Annotated[float, msgspec.Meta(ge=0, le=MAX_TIMEOUT)] | None
    odd: Text | None
    command_valid: bool
    command: Value
    command_index: int
    snapshot_valid: bool
    snapshot: Snapshot | None
    snapshot_term: int
    snapshot_index: int


class Save(Frame, frozen=True):
    """Save the state, and the snapshot unless None."""

    state: bytes
    snapshot: Snapshot | None


class Died(Frame, frozen=True):
    """An exception has ended a thread, or a handler. `where` is its innermost line."""

    thread: Text
    exit: bool  # by sys.exit
    what: Text  # "ValueError: message", or what sys.exit was called with
    where: Text
    traceback: Long


class Complaint(Frame, frozen=True):
    """A warning: labgob's or any other."""

    category: Name
    message: Text
    filename: Text
    line: Id


class Leak(Frame, frozen=True):
    """`count` threads go on after Kill at one place, the first of which is called `thread`."""

    thread: Text
    count: Id
    place: Text


# --- answers ------------------------------------------------------------------------------------------------------


class Done(Frame, frozen=True):
    id: Id
    value: bytes | None


class Mistake(Frame, frozen=True):
    """It can never work; `text` says why (a LabrpcError, a SolutionError)."""

    id: Id
    text: Long


class Raised(Frame, frozen=True):
    """The submission raised an exception where it should have returned."""

    id: Id
    what: Text
    where: Text
    traceback: Long


class Places(Frame, frozen=True):
    """`about`: where the thread is that was asked about, "" if none is at it. `threads`: where the others are."""

    id: Id
    about: Text
    threads: Annotated[list[Text], msgspec.Meta(max_length=100)]


class Made(msgspec.Struct, frozen=True):
    """What Make returned; it travels as the value of the answer."""

    service: Name  # its class's name
    methods: Annotated[list[Name], msgspec.Meta(max_length=10)]  # those of the lab that it has
    shown: Text  # its repr


TO_PLAYER = msgspec.msgpack.Decoder(Load | Make | Ask | Handle | Where | Done | Mistake)
TO_JUDGE = msgspec.msgpack.Decoder(
    Declare | Call | Put | Save | Died | Complaint | Leak | Done | Mistake | Raised | Places
)


class Connection:
    """Frames over a stream. `read(n)` waits for up to n bytes, and gives b"" when the stream has ended."""

    def __init__(
        self,
        read: Callable[[int], bytes],
        write: Callable[[bytes], object],
        decoder: msgspec.msgpack.Decoder[Any],
    ) -> None:
        self._read = read
        self._write = write
        self._decoder = decoder
        self._encoder = msgspec.msgpack.Encoder()
        self._arrived = bytearray()

    def send(self, frame: Frame) -> None:
        """Send one frame; only one thread may do so at a time. Raises FrameError if it is too long."""
        data = self._encoder.encode(frame)
        if len(data) > MAX_FRAME:
            raise FrameError(f"a {type(frame).__name__} of {len(data)} bytes: more than {MAX_FRAME} cannot be sent")
        self._write(len(data).to_bytes(4, "big") + data)

    def receive(self) -> Any:
        """Wait for the next frame; None when the stream has ended. Raises FrameError."""
        arrived = self._arrived
        while True:
            size = int.from_bytes(arrived[:4], "big") if len(arrived) >= 4 else 0
            if size > MAX_FRAME:
                raise FrameError(f"a frame of {size} bytes: more than {MAX_FRAME} are not taken")
            if len(arrived) >= 4 + size and len(arrived) >= 4:
                data = bytes(memoryview(arrived)[4 : 4 + size])
                del arrived[: 4 + size]
                try:
                    return self._decoder.decode(data)
                except (msgspec.MsgspecError, ValueError, RecursionError) as e:
                    raise FrameError(f"what is no frame: {shown(str(e), 200)}") from None
            # Most frames are short, and a large buffer costs more than they do.
            more = self._read(min(max(1 << 12, 4 + size - len(arrived)), 1 << 18))
            if not more:
                if arrived:
                    raise FrameError("a frame that breaks off")
                return None
            arrived += more


# --- values and texts that cross over ------------------------------------------------------------------------------


@dataclass
class _Box:
    Value: Any = None


@dataclass(frozen=True)
class Foreign:
    """What stands in the judge for a value that it cannot hold: equal to what looks the same."""

    text: str = ""

    def __repr__(self) -> str:
        return self.text


labgob.RegisterName("labrun.isolated.Foreign", Foreign)


def box(value: Any, limit: int = MAX_VALUE) -> bytes:
    """The bytes of any value, as labgob carries it in a field typed Any.

    Of what it cannot carry, and of what takes more than `limit` bytes, how it looks (Foreign).
    """
    try:
        data = labgob.encode(_Box(value))
        if len(data) <= limit:
            return data
    except labgob.LabgobError:
        pass
    return labgob.encode(_Box(Foreign(look(value))))


def unbox(data: bytes) -> Any:
    """The value. Raises FrameError."""
    try:
        return labgob.decode(data, _Box).Value
    except labgob.LabgobError as e:
        raise FrameError(f"a value that labgob does not know: {shown(str(e), 200)}") from None


def look(value: Any) -> str:
    """The repr of any value, as it can be shown."""
    try:
        return shown(repr(value))
    except Exception as e:
        return shown(f"<a {type(value).__name__} whose repr raises {type(e).__name__}>")
