"""labrun.isolated.declared: what the judge of isolated servers knows of their messages' classes."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import msgspec
import pytest

from labrun.isolated import frames
from labrun.isolated.declared import UNKNOWN, declare, stand_in


class Colour(enum.Enum):
    RED = 1


@dataclass
class Entry:
    Term: int = 0
    Command: Any = None


@dataclass
class Args:
    Term: int = 3
    Name: str = "x"
    Share: float = 0.5
    Yes: bool = True
    Hue: Colour = Colour.RED
    Long: str = "y" * 1000
    Huge: int = 1 << 70
    Entries: list[Entry] = field(default_factory=list)
    Data: bytes = b"abc"


@dataclass
class Unreadable:
    Term: int = 0
    Entries: list[NoSuchClass] = field(default_factory=list)  # type: ignore[name-defined]  # noqa: F821


def travelled(frame: frames.Declare) -> frames.Declare:
    arrived = frames.TO_JUDGE.decode(msgspec.msgpack.encode(frame))
    assert isinstance(arrived, frames.Declare)
    return arrived


def in_judge(cls: type) -> type:
    return stand_in(travelled(declare(("raft", cls.__qualname__), cls)))


def fields(cls: type) -> dict[str, Any]:
    return {f.name: f.default for f in dataclasses.fields(cls)}


def test_a_stand_in_has_the_fields_their_plain_defaults_and_the_class_of_entries() -> None:
    made = in_judge(Args)
    assert made.__name__ == "Args"
    plain = {"Term": 3, "Name": "x", "Share": 0.5, "Yes": True}
    assert fields(made) == plain | dict.fromkeys(["Hue", "Long", "Huge", "Entries", "Data"])
    (entry,) = get_type_hints(made)["Entries"].__args__
    assert (entry.__name__, fields(entry)) == ("Entry", {"Term": 0, "Command": None})


def test_what_is_declared_alike_is_one_class() -> None:
    assert in_judge(Args) is in_judge(Args)
    assert in_judge(Args) is not in_judge(Entry)


def test_annotations_that_cannot_be_read_and_what_is_no_dataclass_say_less() -> None:
    assert fields(in_judge(Unreadable)) == {"Term": 0, "Entries": None}
    assert get_type_hints(in_judge(Unreadable))["Entries"] is Any
    assert fields(in_judge(int)) == fields(UNKNOWN) == {}


@pytest.mark.parametrize("name", ["class", "a b", "__class__", "_private", "", "x=1):\n import os", "1st"])
def test_a_name_that_no_field_has_is_passed_over(name: str) -> None:
    made = stand_in(travelled(frames.Declare(("m", "X.Y"), [(name, 0, None), ("Term", 1, None), ("Term", 2, None)])))
    assert (made.__name__, fields(made)) == ("Y", {"Term": 2})


@pytest.mark.parametrize(
    "declared",
    [
        frames.Declare(("m", "X"), [("f", None, None)] * (frames.MAX_FIELDS + 1)),
        frames.Declare(("m", "X"), [("f" * 300, None, None)]),
        frames.Declare(("m", "X"), [("f", "s" * 300, None)]),
        frames.Declare(("m", "X"), [("f", [1], None)]),  # type: ignore[list-item]
        frames.Declare(("m", "X"), [("f", None, ("Entry", [("g", None)] * 60))]),
    ],
    ids=["many", "long name", "long default", "odd default", "many nested"],
)
def test_what_does_not_fit_the_type_is_no_frame(declared: frames.Declare) -> None:
    with pytest.raises(msgspec.ValidationError):
        travelled(declared)
