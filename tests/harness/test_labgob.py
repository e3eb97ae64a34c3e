"""labgob: what goes in comes out, and what would be lost is said."""

from __future__ import annotations

import dataclasses
import enum
import io
import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional

import pytest

import labgob
from conftest import REPOSITORY


@dataclass
class T2:
    T2a: dict[int, str] = field(default_factory=dict)
    T2b: Any = None


@dataclass
class T1:
    T1int0: int = 0
    T1int1: int = 0
    T1string0: str = ""
    T1string1: str = ""


@dataclass
class T3:
    T3list: list[T1] = field(default_factory=list)
    T3map: dict[int, T1] = field(default_factory=dict)
    T3any: Any = None


@dataclass
class Reply:
    X: int = 0
    Nested: T1 = field(default_factory=T1)


def make_private() -> type:
    """A class of its own for each test, as complaints come once a type."""

    @dataclass
    class Private:
        Yes: int = 0
        _no: int = 0

    # Resolvable for get_type_hints although the class is local.
    Private.__annotations__ = {"Yes": int, "_no": int}
    return Private


@pytest.fixture(autouse=True)
def _errors_counted_from_zero(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(labgob, "errorCount", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", labgob.LabgobWarning)
        yield


def roundtrip(value: Any, T: Any = None) -> Any:
    w = io.BytesIO()
    labgob.NewEncoder(w).Encode(value)
    return labgob.NewDecoder(io.BytesIO(w.getvalue())).Decode(T or type(value))


def test_values_written_one_after_the_other_come_back_equal() -> None:
    labgob.Register(T2)
    struct = T1(1, 2, "6.824", "lab")
    nested = T3([T1(3), T1(4)], {7: T1(5), -8: T1(6)}, T2({1: "one"}, [T2()]))
    w = io.BytesIO()
    e = labgob.NewEncoder(w)
    for value in (12, -13, struct, nested):
        e.Encode(value)
    d = labgob.NewDecoder(io.BytesIO(w.getvalue()))
    assert [d.Decode(int), d.Decode(int), d.Decode(T1), d.Decode(T3)] == [12, -13, struct, nested]
    assert labgob.errorCount == 0


def test_a_private_field_is_never_sent_and_complained_of_once_a_type() -> None:
    Private = make_private()
    with pytest.warns(labgob.LabgobWarning) as seen:
        back = roundtrip([{1: Private(1, 2)}, {2: Private(3, 4)}], list[dict[int, Private]])  # type: ignore[valid-type]
    assert back == [{1: Private(1, 0)}, {2: Private(3, 0)}]
    assert [str(w.message) for w in seen] == [
        "labgob error: private field _no of Private in RPC or persist/snapshot will break your Raft"
    ]
    assert labgob.errorCount == 1


def test_an_undeclared_attribute_is_not_sent_and_complained_of_once() -> None:
    @dataclass
    class Args:
        pass

    args = Args()
    args.Foo = 1  # type: ignore[attr-defined]
    with pytest.warns(labgob.LabgobWarning, match="undeclared field Foo of Args in RPC") as seen:
        assert not hasattr(roundtrip(args), "Foo")
        roundtrip(args)
    assert len(seen) == labgob.errorCount == 1
    assert seen[0].filename == __file__  # the line of the student's call, not one inside labgob


def test_filling_an_instance_that_already_holds_something_is_one_complaint() -> None:
    data = labgob.encode(Reply())
    used = Reply(X=99)
    with pytest.warns(labgob.LabgobWarning, match="non-default variable/field Reply.X may not work") as seen:
        assert labgob.fill(data, used) is used
    assert used.X == 99  # a zero was not sent
    assert len(seen) == labgob.errorCount == 1


@pytest.mark.parametrize(("used", "complaints"), [(Reply(Nested=T1(5)), 1), (Reply(Nested=T1(0)), 0)])
def test_a_default_is_looked_for_inside_nested_dataclasses_too(used: Reply, complaints: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labgob.fill(labgob.encode(Reply()), used)
    assert labgob.errorCount == complaints


def test_only_the_first_use_of_a_used_instance_is_printed_but_all_are_counted() -> None:
    @dataclass
    class Fresh:  # a class that no other test has used up
        X: int = 0

    with pytest.warns(labgob.LabgobWarning) as seen:
        for _ in range(3):
            labgob.fill(labgob.encode(Fresh()), Fresh(X=99))
    assert (len(seen), labgob.errorCount) == (1, 3)


def test_an_earlier_complaint_does_not_silence_the_warning_about_another_class() -> None:
    @dataclass
    class VoteReply:
        X: int = 0

    @dataclass
    class AppendReply:
        X: int = 0

    with pytest.warns(labgob.LabgobWarning) as seen:
        for cls in (VoteReply, AppendReply):
            labgob.fill(labgob.encode(cls()), cls(X=99))
    assert [str(w.message).split()[7] for w in seen] == ["VoteReply.X", "AppendReply.X"]


@dataclass
class Zeros:
    """Each field declares its type's zero value."""

    Bool: bool = False
    Int: int = 0
    Float: float = 0.0
    Str: str = ""
    Bytes: bytes = b""
    Maybe: int | None = None
    List: list[int] = field(default_factory=list)
    Dict: dict[str, int] = field(default_factory=dict)
    Set: set[int] = field(default_factory=set)
    Tuple: tuple[int, ...] = ()


USED = Zeros(True, 1, 1.0, "a", b"a", 0, [0], {"": 0}, {0}, (0,))


def test_a_zero_value_that_is_the_declared_default_is_not_sent() -> None:
    used = dataclasses.replace(USED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labgob.fill(labgob.encode(Zeros()), used)
    assert used == USED
    assert roundtrip(Zeros()) == Zeros()
    assert roundtrip(USED) == USED


@dataclass
class Odd:
    """None of these is the zero value of its type, or has none declared."""

    Required: int
    MinusOne: int = -1
    Yes: bool = True
    Text: str = "x"
    Full: list[int] = field(default_factory=lambda: [1])
    Loose: Any = 0
    Nested: T1 = field(default_factory=T1)


def test_a_zero_value_is_sent_where_the_default_is_another() -> None:
    zeros = Odd(0, 0, False, "", [], False, T1())
    assert roundtrip(zeros) == zeros
    assert type(roundtrip(zeros).Loose) is bool  # False is not the 0 that was declared
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        used = labgob.fill(labgob.encode(zeros), Odd(1, 1, True, "y", [2], 3, T1(7)))
    assert used == zeros


def test_a_reply_used_for_two_calls_keeps_its_true_when_a_false_arrives() -> None:
    """As in Go, where the lab's tests then see commands counted that a follower has refused."""

    @dataclass
    class AppendReply:
        Term: int = 0
        Success: bool = False

    reply = AppendReply()
    labgob.fill(labgob.encode(AppendReply(1, True)), reply)
    with pytest.warns(labgob.LabgobWarning, match="AppendReply.Term"):
        labgob.fill(labgob.encode(AppendReply(2, False)), reply)
    assert reply == AppendReply(2, True)


def test_zeros_in_containers_and_on_their_own_are_kept() -> None:
    assert roundtrip([0, False, "", None, []], list[Any]) == [0, False, "", None, []]
    assert roundtrip(0) == 0
    assert roundtrip([Zeros(), USED], list[Zeros]) == [Zeros(), USED]


FIRST_USE = """
import dataclasses, sys, threading
import labgob

sys.setswitchinterval(1e-5)
for round in range(200):
    Entry = dataclasses.make_dataclass("Entry", [("Term", int, 0), ("Command", object, None)])
    Args = dataclasses.make_dataclass(
        "Args", [(f"Field{i}", list[Entry], dataclasses.field(default_factory=list)) for i in range(6)]
    )
    data = labgob.encode(Args(Field0=[Entry(1, 2)]))
    start = threading.Barrier(4)

    def decode():
        start.wait()
        assert labgob.decode(data, Args).Field0 == [Entry(1, 2)]

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_that_decode_a_new_class_at_the_same_time_do_not_crash_the_interpreter() -> None:
    """The first RequestVotes after Make do that: msgspec alone died of it within this many rounds, six times of six."""
    done = subprocess.run([sys.executable, "-c", FIRST_USE], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Everything:
    a_bool: bool = False
    an_int: int = 0
    a_float: float = 0.0
    a_str: str = ""
    some_bytes: bytes = b""
    bare_list: list = field(default_factory=list)  # type: ignore[type-arg]
    bare_dict: dict = field(default_factory=dict)  # type: ignore[type-arg]
    bare_set: set = field(default_factory=set)  # type: ignore[type-arg]
    bare_tuple: tuple = ()  # type: ignore[type-arg]
    a_list: list[T1] = field(default_factory=list)
    a_dict: dict[tuple[int, int], set[str]] = field(default_factory=dict)
    a_tuple: tuple[int, T1, Any] = (0, T1(), None)
    many: tuple[T1, ...] = ()
    maybe: Optional[T1] = None  # noqa: UP045  both spellings must work
    either: int | None = None
    colour: Colour = Colour.RED
    itself: Everything | None = None


def test_every_kind_of_field_comes_back_as_declared() -> None:
    value = Everything(
        True, 5, 1.5, "x", b"\0\xff", [1, (2, 3)], {1: (4,)}, {(5, 6)}, (7, [8]), [T1(9)], {(1, 2): {"a"}},
        (10, T1(11), (12,)), (T1(13), T1(14)), T1(15), 16, Colour.RED, Everything(maybe=T1(17)),
    )  # fmt: skip
    assert roundtrip(value) == value
    assert roundtrip(Everything()) == Everything()


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -1, 2**63, 2**64, -(2**63) - 1, 10**40, -(10**40), 1.0, -0.5, "", "é", b"\0", [], (), {},
        set(), (1, (2, [3, (4,)])), [(1,), {2, 3}], {"a": (1,), 5: {6}}, {(1, 2): {(3,)}, None: b""}, T2({1: "x"}, (T2(),)),
    ],
    ids=repr,
)  # fmt: skip
def test_a_value_in_an_any_field_comes_back_equal_and_of_its_type(value: object) -> None:
    labgob.Register(T2)
    back = roundtrip(T2(T2b=value)).T2b
    assert back == value
    assert repr(back) == repr(value)  # types all the way down: 1, True and 1.0 are equal, their reprs are not


def test_fields_match_by_name_whatever_else_was_sent() -> None:
    @dataclass
    class Old:
        Term: int = 0
        Gone: str = "gone"

    @dataclass
    class New:
        Term: int = 0
        Fresh: int = 7

    assert labgob.decode(labgob.encode(Old(3)), New) == New(3, 7)
    assert labgob.fill(labgob.encode(Old(3)), New()) == New(3, 7)


@dataclass
class Holder:
    Command: Any = None
    Entries: list[T2] = field(default_factory=list)
    Number: int = 0


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        (Holder(Command=threading.Lock()), "$.Command", "lock"),
        (Holder(Entries=[T2(), T2(T2b=lambda: 0)]), "$.Entries[1].T2b", "function"),
        (Holder(Command={"k": [1, sys.stdout]}), "$.Command['k'][1]", type(sys.stdout).__name__),
        (Holder(Command=object()), "$.Command", "object"),
        (Holder(Number=2**70), "$.Number", "int"),
        (threading.Lock(), "$", "lock"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_cannot_travel_is_named_where_it_is_encoded(value: object, path: str, kind: str) -> None:
    w = io.BytesIO()
    with pytest.raises(labgob.LabgobError) as e:
        labgob.NewEncoder(w).Encode(value)
    assert f"{path} holds " in str(e.value)
    assert kind in str(e.value)
    assert w.getvalue() == b""


def test_a_structure_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(labgob.LabgobError):
        labgob.encode(Holder(Command=loop))


def test_an_unregistered_dataclass_in_an_any_field_is_refused_with_the_remedy() -> None:
    with pytest.raises(labgob.LabgobError, match=r"Command holds .*Reply.*labgob.Register\(Reply\)"):
        labgob.encode(Holder(Command=Reply()))


def test_register_refuses_what_is_no_dataclass_and_a_name_in_use() -> None:
    with pytest.raises(labgob.LabgobError, match="takes a dataclass"):
        labgob.Register(int)
    labgob.RegisterName("in.use", T1)
    labgob.RegisterName("in.use", T1)
    with pytest.raises(labgob.LabgobError, match="duplicate types for 'in.use'"):
        labgob.RegisterName("in.use", T2)


@pytest.mark.parametrize(
    ("sent", "T", "message"),
    [
        (T1(T1int0="no"), T1, "Expected `int`, got `str` - at `$.T1int0`"),  # type: ignore[arg-type]
        ({"X": 1, "Nested": {"T1int1": None}}, Reply, "Expected `int`, got `None` - at `$.Nested.T1int1`"),
        ("text", int, "Expected `int`, got `str` - at `$`"),
    ],
    ids=["field", "nested", "whole"],
)
def test_the_wrong_type_is_an_error_that_names_field_expected_and_found(sent: object, T: type, message: str) -> None:
    for decode in (labgob.decode, lambda data, T: labgob.fill(data, T())):
        if T is int and decode is not labgob.decode:
            continue
        with pytest.raises(labgob.LabgobError) as e:
            decode(labgob.encode(sent), T)
        assert message in str(e.value)


def test_reading_past_the_end_is_an_error() -> None:
    for data in (b"", b"\0\0", b"\0\0\0\x05ab"):
        with pytest.raises(labgob.LabgobError, match="no more data where int was to be decoded"):
            labgob.NewDecoder(io.BytesIO(data)).Decode(int)


def test_a_wrong_name_in_an_annotation_is_said() -> None:
    @dataclass
    class Typo:
        X: Misspelt = 0  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(labgob.LabgobError, match="Typo is annotated with an unknown name.*Misspelt"):
        labgob.encode(Typo())


def test_zero_values_are_defaults_or_gos() -> None:
    @dataclass
    class Z:
        a: int
        b: str
        c: list[int]
        d: Optional[int]  # noqa: UP045
        e: T1
        f: bool
        g: int = 42

    Z.__annotations__["e"] = T1
    assert labgob.zero(Z) == Z(0, "", [], None, T1(), False, 42)


def test_decoding_hostile_bytes_raises_nothing_but_labgob_error() -> None:
    rng = random.Random("hostile")
    good = labgob.encode(T3([T1(1)], {1: T1(2)}, (1, {2})))
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        for T in (T3, Any):
            try:
                labgob.decode(bytes(data[: rng.randint(0, len(data))]), T)
            except labgob.LabgobError:
                pass
