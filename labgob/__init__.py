"""Encoding for RPC messages and persistent state, with warnings for the two mistakes that silently lose data.

Arguments, replies and saved state travel as bytes, so that two servers never share an object and the bytes can be
counted. The calls are those of the lab's own `labgob`:

    w = io.BytesIO()
    e = labgob.NewEncoder(w)
    e.Encode(rf.currentTerm)                   # several values in a row
    e.Encode(rf.log)

    d = labgob.NewDecoder(io.BytesIO(data))
    rf.currentTerm = d.Decode(int)             # say the type; what arrives is checked against it
    rf.log = d.Decode(list[LogEntry])
    d.Decode(reply)                            # or fill a dataclass instance in place

What callers may rely on:

- Dataclasses travel by field name: a field the receiver does not know is dropped, one the sender did not send keeps
  its default, or what it held when an instance is filled in place.
- As in gob, a field is left out that holds its type's zero value (`0`, `False`, `""`, `b""`, `None`, an empty
  container) while its declared default is that same value: a reply object that is used for two calls keeps the True
  of the first when a False arrives. Elements of containers, and values encoded by themselves, are always written.
- Fields may be `bool, int, float, str, bytes`, `list, dict, set, tuple` (bare or of something),
  `Optional`, `Enum` and other dataclasses.
- A value in a field typed `Any` comes back equal and of the same type: None, bool, int of any size, float, str, bytes,
  list, tuple, dict, set, and dataclasses made known with `Register`.
- Whatever cannot be encoded or decoded raises `LabgobError`, which names the type and the field (`$.Term`); so does
  reading past the end.
- Decoding runs no code that the bytes choose.

What it warns about (`LabgobWarning`, counted in `errorCount`), because in Go as here it breaks a Raft quietly:

- A field that is never sent: its name begins with `_`, or it was set on the instance without being declared.
- Decoding into an instance that already holds something, such as a reply object used for two calls: what was not
  sent shows through. Every such decoding is counted; it is said once for each class.

Differences from Go: `Decode` takes the type and returns the value, as Python has no `&x`; errors are raised; and the
last warning comes once for each class, where Go gives it for the first complaint of a process only. (A Go process is
one run of the lab. Here many trials share a process, and each loads the student's classes afresh.)
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import threading
import types
import typing
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec
from msgspec.msgpack import Ext

__all__ = [
    "LabDecoder",
    "LabEncoder",
    "LabgobError",
    "LabgobWarning",
    "NewDecoder",
    "NewEncoder",
    "Register",
    "RegisterName",
    "decode",
    "encode",
    "fill",
    "plain",
    "zero",
]

errorCount = 0
"""The number of complaints so far, printed or not (Go's `errorCount`)."""


class LabgobError(Exception):
    """A value that cannot be encoded, or bytes that do not hold what was asked for."""


class LabgobWarning(UserWarning):
    """Data that is about to be lost silently.

    `kind` is "private", "undeclared" or "used"; `cls` and `field` are the names of the class and its field.
    """

    def __init__(self, message: str, kind: str = "", cls: str = "", field: str = "") -> None:
        super().__init__(message)
        self.kind, self.cls, self.field = kind, cls, field


# --- the calls of the lab ------------------------------------------------------------------------------------------


def NewEncoder(w: BinaryIO) -> LabEncoder:
    """An encoder that writes to the binary file `w`, such as `io.BytesIO()`."""
    return LabEncoder(w)


def NewDecoder(r: BinaryIO) -> LabDecoder:
    """A decoder that reads what a LabEncoder wrote from the binary file `r`."""
    return LabDecoder(r)


class LabEncoder:
    """Writes values one after another, each preceded by its length in four bytes."""

    def __init__(self, w: BinaryIO) -> None:
        self._w = w

    def Encode(self, value: Any) -> None:
        """Append `value`. Raises LabgobError, and writes nothing, if it cannot be encoded."""
        data = encode(value)
        self._w.write(len(data).to_bytes(4, "big") + data)


class LabDecoder:
    """Reads the values back in the order in which they were written."""

    def __init__(self, r: BinaryIO) -> None:
        self._r = r

    def Decode(self, target: Any) -> Any:
        """Read the next value.

        `target` is a type (`int`, `list[LogEntry]`, a dataclass ...), of which a new value is returned, or a dataclass
        instance, which is filled in place and returned. Raises LabgobError if the data ends here or is of another type.
        """
        prefix = self._r.read(4)
        data = self._r.read(int.from_bytes(prefix, "big"))
        if len(prefix) < 4 or len(data) < int.from_bytes(prefix, "big"):
            raise LabgobError(f"labgob: no more data where {_name(target)} was to be decoded")
        if dataclasses.is_dataclass(target) and not isinstance(target, type):
            return fill(data, target)
        return decode(data, target)


def Register(T: type) -> None:
    """Let instances of the dataclass `T` travel in fields typed `Any`, under the name `module.T`."""
    RegisterName(f"{T.__module__}.{T.__qualname__}", T)


def RegisterName(name: str, T: type) -> None:
    """The same under a name of your own. Raises LabgobError if `T` is no dataclass or the name stands for another."""
    if not (isinstance(T, type) and dataclasses.is_dataclass(T)):
        raise LabgobError(f"labgob: Register takes a dataclass, not {T!r}")
    known = _registered.get(name)
    # A class of the same origin is the same class loaded afresh, which the harness does for every test.
    if known and (known.__module__, known.__qualname__) != (T.__module__, T.__qualname__):
        raise LabgobError(f"labgob: registering duplicate types for {name!r}: {known!r} and {T!r}")
    _registered[name] = T


# --- the codec -----------------------------------------------------------------------------------------------------


def encode(value: Any) -> bytes:
    """The bytes of one value, without the length that LabEncoder puts before it. Raises LabgobError."""
    try:
        return _encoder.encode(_pack_value(value))
    except (TypeError, ValueError, OverflowError, RecursionError) as e:
        path, culprit = _find_unencodable(value, "$")
        raise LabgobError(
            f"labgob: cannot encode {_name(type(value))}: {path} holds "
            f"{_name(type(culprit))}, which no message can carry ({e})"
        ) from None


def decode(data: bytes, T: Any) -> Any:
    """A new value of type `T` from the bytes of one value. Raises LabgobError."""
    try:
        _packer(T)  # complains about what T would never receive
        return _decoder(T).decode(data)
    except _UNDECODABLE as e:
        raise LabgobError(f"labgob: cannot decode {_name(T)}: {_with_path(e, '$')}") from None


def fill(data: bytes, instance: Any) -> Any:
    """Decode into a dataclass instance, field by field, and return it. Raises LabgobError.

    As in Go, a field that was not sent stays as it is; so a value left over from an earlier use would show through,
    and an instance that holds anything but its defaults is warned about.
    """
    cls: Any = type(instance)
    struct = _struct(cls)
    struct.warn_if_used(instance)
    decoders = struct.decoders
    name = "$"
    try:
        for name, value in _fields_decoder.decode(data).items():
            if name in decoders:
                setattr(instance, name, decoders[name].decode(value))
    except (*_UNDECODABLE, AttributeError) as e:
        path = "$" if name == "$" else f"$.{name}"
        raise LabgobError(f"labgob: cannot decode {_name(type(instance))}: {_with_path(e, path)}") from None
    return instance


def plain(data: bytes) -> Any:
    """One encoded value for somebody who looks on: without its classes, so that no code of the program runs.

    A dataclass is a dict of the fields that were sent, by name; a set is a list in an order of its own, and so are a
    dict's pairs where its keys are no plain values. Equal values give equal ones. Raises LabgobError.
    """
    try:
        return _plain_decoder.decode(data)
    except _UNDECODABLE as e:
        raise LabgobError(f"labgob: cannot decode: {e}") from None


def zero(T: type) -> Any:
    """An instance of the dataclass `T` with every field at its default, or at its type's zero value without one.

    Zero values are Go's: `0`, `False`, `""`, an empty container, None for an Optional, a nested dataclass of zeros.
    """
    return T(**{name: _zero_value(hint) for name, hint in _struct(T).required})


def _zero_value(hint: Any) -> Any:
    kind = typing.get_origin(hint) or hint
    if dataclasses.is_dataclass(kind):
        return zero(typing.cast(type, kind))
    if kind in (bool, int, float, str, bytes, list, dict, set, frozenset, tuple):
        return kind()
    return None


# --- warnings ------------------------------------------------------------------------------------------------------

_complaints = threading.Lock()


def _complain(warning: LabgobWarning, *, silent: bool = False) -> None:
    """Count a complaint and, unless `silent`, warn at the line that called into labgob or labrpc.

    Modules that hide from tracebacks may stand in between.
    """
    global errorCount
    with _complaints:
        errorCount += 1
    if silent:
        return
    depth, frame = 1, sys._getframe()
    while frame.f_back and (
        frame.f_globals["__name__"].partition(".")[0] in ("labgob", "labrpc")
        or frame.f_globals.get("__tracebackhide__")
    ):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(warning, stacklevel=depth)


# --- how values become bytes ---------------------------------------------------------------------------------------
#
# msgspec does the encoding, the decoding and the type checks. What it cannot know is done on the way in: leaving out
# what is private or undeclared, and marking what msgpack has no type for inside an `Any`. `_packer(T)` is that step
# for values of type T, or None where there is nothing to do, so that plain data costs nothing extra.

_registered: dict[str, type] = {}
_PLAIN = frozenset({type(None), bool, float, str, bytes})
_TUPLE, _SET, _DICT, _BIG_INT, _STRUCT = range(1, 6)

_encoder = msgspec.msgpack.Encoder()
_fields_decoder = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])


class _Struct:
    """What labgob knows of one dataclass. Complains, when made, of fields that will never be sent."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        names = [f.name for f in dataclasses.fields(cls)]
        self.public = [name for name in names if not name.startswith("_")]
        self._declared = frozenset(names)
        self._plain = len(self.public) == len(names) and hasattr(cls, "__dict__")
        self._undeclared_seen: set[str] = set()
        self._used_seen = False  # whether it has been said that an instance was decoded into that was not new
        for name in names:
            if name.startswith("_"):
                self._complain(
                    f"labgob error: private field {name} of {cls.__name__} "
                    "in RPC or persist/snapshot will break your Raft",
                    "private",
                    name,
                )

    @functools.cached_property
    def _fields(self) -> list[tuple[str, type | None, Callable[[Any], Any] | None]]:
        """Name of each field that is sent; type of its default, if that is a zero value; how to pack the others.

        Made at first use, as a dataclass may hold itself.
        """
        hints = _hints(self.cls)
        defaults = {
            f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
            for f in dataclasses.fields(self.cls)
        }
        zero_types = {name: type(default) for name, default in defaults.items() if _is_zero(default)}
        return [(name, zero_types.get(name), _packer(hints[name])) for name in self.public]

    @functools.cached_property
    def decoders(self) -> dict[str, msgspec.msgpack.Decoder[Any]]:
        hints = _hints(self.cls)
        return {name: _decoder(hints[name]) for name in self.public}

    @functools.cached_property
    def required(self) -> list[tuple[str, Any]]:
        """Name and annotation of each field without a default."""
        hints = _hints(self.cls)
        return [
            (f.name, hints[f.name])
            for f in dataclasses.fields(self.cls)
            if f.init and f.default is f.default_factory is dataclasses.MISSING
        ]

    @functools.cached_property
    def _blank(self) -> list[tuple[str, Any]]:
        """Each public field of an instance that holds nothing, by name."""
        blank = zero(self.cls)
        return [(name, getattr(blank, name)) for name in self.public]

    def pack(self, value: Any) -> Any:
        """The fields to send, by name. A value of another type is left to the receiver's check, or to its own class."""
        if type(value) is not self.cls:
            return _pack_value(value)
        held = getattr(value, "__dict__", None)
        if not self._plain or held is None or held.keys() != self._declared:
            for name in held or ():
                self._warn_if_undeclared(name)
            held = {name: getattr(value, name) for name in self.public}
        packed = {}
        for name, zero_type, pack in self._fields:
            field = held[name]
            if field or type(field) is not zero_type:  # by exact type: False is no 0, and is sent where that is
                packed[name] = pack(field) if pack is not None else field
        return packed

    def _warn_if_undeclared(self, name: str) -> None:
        if name in self._declared or name in self._undeclared_seen:
            return
        self._undeclared_seen.add(name)
        self._complain(
            f"labgob error: undeclared field {name} of {self.cls.__name__} "
            f"in RPC or persist/snapshot will break your Raft (declare it in the class to have it sent)",
            "undeclared",
            name,
        )

    def _complain(self, message: str, kind: str, name: str, *, silent: bool = False) -> None:
        _complain(LabgobWarning(message, kind, self.cls.__name__, name), silent=silent)

    def warn_if_used(self, instance: Any) -> None:
        """Complain of an instance whose public fields are not at their defaults; names the first such field."""
        for name, default in self._blank:
            held = getattr(instance, name, None)
            if held is not default and _differs(held, default, depth=3):
                silent, self._used_seen = self._used_seen, True
                self._complain(
                    f"labgob warning: Decoding into a non-default variable/field "
                    f"{self.cls.__name__}.{name} may not work",
                    "used",
                    name,
                    silent=silent,
                )
                return


def _differs(value: Any, default: Any, depth: int) -> bool:
    if value is default:
        return False
    if dataclasses.is_dataclass(value) and type(value) is type(default):
        fields = dataclasses.fields(value)
        return depth > 1 and any(_differs(getattr(value, f.name), getattr(default, f.name), depth - 1) for f in fields)
    return bool(value != default)


_ZERO_TYPES = (bool, int, float, str, bytes, list, tuple, dict, set, frozenset, type(None))


def _is_zero(value: Any) -> bool:
    return not value and type(value) in _ZERO_TYPES


@functools.lru_cache(maxsize=256)  # bounded, as every trial brings classes of its own
def _struct(cls: type) -> _Struct:
    return _Struct(cls)


# msgspec keeps what it finds out about a class on that class, and fills it in while other threads may read it: when
# several threads made the first decoder of a class at once, the interpreter crashed.
_making = threading.Lock()


@functools.lru_cache(maxsize=256)
def _decoder(T: Any) -> msgspec.msgpack.Decoder[Any]:
    with _making:
        return msgspec.msgpack.Decoder(T, ext_hook=_unpack_ext)


@functools.lru_cache(maxsize=256)
def _hints(cls: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except NameError as e:
        raise LabgobError(f"labgob: a field of {_name(cls)} is annotated with an unknown name: {e}") from None


@functools.lru_cache(maxsize=256)
def _packer(hint: Any) -> Callable[[Any], Any] | None:
    if hint is Any or hint is object:
        return _pack_any
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _struct(hint).pack
    kind = typing.get_origin(hint) or hint
    if kind in (typing.Union, types.UnionType):
        return _pack_value if any(_packer(arm) for arm in typing.get_args(hint)) else None
    if kind in (list, set, frozenset, tuple):
        of = [arm for arm in typing.get_args(hint) if arm is not ...] or [Any]
        packers = [_packer(arm) for arm in of]
        if not any(packers):
            return None
        if len(of) == 1:
            pack = packers[0] or _same
            return lambda value: [pack(v) for v in value] if isinstance(value, kind) else value
        return lambda value: (
            [(p or _same)(v) for p, v in zip(packers, value, strict=True)]
            if isinstance(value, tuple) and len(value) == len(packers)
            else value
        )
    if kind is dict:
        pack_item = _packer((typing.get_args(hint) or (Any, Any))[1]) or _same
        return lambda value: {k: pack_item(v) for k, v in value.items()} if isinstance(value, dict) else value
    return None


def _same(value: Any) -> Any:
    return value


def _pack_value(value: Any) -> Any:
    """Pack what has no annotation of its own, such as a whole message: the type it will be read as is named there."""
    kind: Any = type(value)
    if kind in _PLAIN or kind is int:
        return value
    if hasattr(kind, "__dataclass_fields__"):
        return _struct(kind).pack(value)
    if kind in (list, tuple, set, frozenset):
        return [_pack_value(v) for v in value]
    if kind is dict:
        return {k: _pack_value(v) for k, v in value.items()}
    return value


def _pack_any(value: Any) -> Any:
    """Pack a value whose type must travel with it. Raises TypeError for what must be registered first."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        if -(1 << 63) <= value < 1 << 64:
            return value
        return Ext(_BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if kind is list:
        return [_pack_any(v) for v in value]
    if kind is dict:
        if all(type(k) in _PLAIN or type(k) is int for k in value):
            return {_pack_any(k): _pack_any(v) for k, v in value.items()}
        return _ext(_DICT, [[_pack_any(k), _pack_any(v)] for k, v in value.items()])
    if kind is tuple:
        return _ext(_TUPLE, [_pack_any(v) for v in value])
    if kind is set:
        return _ext(_SET, [_pack_any(v) for v in value])
    if dataclasses.is_dataclass(kind):
        for name, known in _registered.items():
            if known is kind:
                return _ext(_STRUCT, [name, _struct(kind).pack(value)])
        raise TypeError(f"a dataclass in a field typed Any must be made known: labgob.Register({kind.__name__})")
    raise TypeError(f"objects of type {kind.__name__} are not supported")


def _ext(code: int, value: Any) -> Ext:
    return Ext(code, _encoder.encode(value))


def _unpack_ext(code: int, data: memoryview) -> Any:
    if code == _BIG_INT:
        return int.from_bytes(data, "big", signed=True)
    if code == _STRUCT:
        name, fields = _struct_decoder.decode(data)
        if name not in _registered:
            raise LabgobError(f"labgob: name not registered for interface: {name!r}; call labgob.Register for its type")
        return _decoder(_registered[name]).decode(fields)
    values = _decoder(Any).decode(data)
    if code == _TUPLE:
        return tuple(values)
    if code == _SET:
        return set(values)
    if code == _DICT:
        return dict(values)
    raise LabgobError(f"labgob: unknown kind of value ({code})")


_struct_decoder = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])


def _plain_ext(code: int, data: memoryview) -> Any:
    if code == _BIG_INT:
        return int.from_bytes(data, "big", signed=True)
    values = _plain_decoder.decode(data)
    if code == _STRUCT:
        return values[1]
    return tuple(values) if code == _TUPLE else sorted(values, key=repr)


_plain_decoder = msgspec.msgpack.Decoder(ext_hook=_plain_ext)


# msgspec's own errors and UnicodeDecodeError are ValueErrors; TypeError is an annotation that it does not support, or
# an unhashable key.
_UNDECODABLE = (ValueError, TypeError, OverflowError, RecursionError)


# --- errors --------------------------------------------------------------------------------------------------------


def _name(T: Any) -> str:
    if isinstance(T, type) and typing.get_origin(T) is None:
        return T.__qualname__ if T.__module__ == "builtins" else f"{T.__module__}.{T.__qualname__}"
    return repr(T)


def _with_path(error: Exception, path: str) -> str:
    """msgspec's message, with the place spelt from the top even where msgspec saw only a part or the whole."""
    text = str(error)
    if " - at `$" in text:
        return text.replace(" - at `$", f" - at `{path}", 1)
    return f"{text} - at `{path}`"


def _find_unencodable(value: Any, path: str, in_any: bool = False) -> tuple[str, Any]:
    """The first place in `value` that holds what no message can carry (run for an error message alone)."""
    parts: list[tuple[str, Any, bool]] = []
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = _hints(type(value))
        for name in _struct(type(value)).public:
            parts.append((f"{path}.{name}", getattr(value, name), hints[name] is Any))
    elif isinstance(value, dict):
        parts = [(f"{path}[{k!r}]", v, in_any) for k, v in value.items()]
    elif isinstance(value, (list, tuple, set)):
        parts = [(f"{path}[{i}]", v, in_any) for i, v in enumerate(value)]
    for where, part, part_in_any in parts:
        try:
            _encoder.encode(_pack_any(part) if part_in_any else _pack_value(part))
        except (TypeError, ValueError, OverflowError):
            return _find_unencodable(part, where, part_in_any)
        except RecursionError:
            return where, part
    return path, value
