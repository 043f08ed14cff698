"""Reads pickles without executing them: opcodes build plain containers, names stay names.

Python's unpickler imports what a pickle names and calls it. This one has no way to do so: a name becomes a `Global`,
two words, and what a pickle would call becomes a `Record`, which says what would have been called with what. The rules
given to it say which names are admitted and which few become values.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

from .byte_stream import ByteStream
from .errors import ConversionError

__all__ = ["Global", "PickleRules", "Record", "load_inert"]

MAX_OPCODES = 5_000_000
"""A checkpoint of a large model has some ten thousand."""

_HASHABLE = (str, int, float, bool, bytes, type(None))


@dataclass(frozen=True)
class Global:
    """The name of a class or function; never the thing itself.

    Args:
        module (`str`): as written in the file.
        name (`str`): as written in the file.
    """

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Record:
    """What an object would have been made of.

    Args:
        kind (`Global`): its class, or the function that would have made it.
        args (`tuple`): the arguments.
        state (`Any`): what would have been set on it.
    """

    kind: Global
    args: tuple[Any, ...] = ()
    state: Any = None


class PickleRules(Protocol):
    """Which names a pickle may hold and what becomes of them."""

    def admits(self, name: Global) -> bool:
        """Whether the name may occur at all."""

    def construct(self, name: Global, args: tuple[Any, ...]) -> Any:
        """The value of a call; a `Record` unless it is plain data."""

    def built(self, record: Record, stream: ByteStream) -> None:
        """A record's state is complete; `stream` stands behind the opcode that completed it."""

    def persistent(self, identity: Any) -> Any:
        """The value of a reference to something outside the pickle."""


def load_inert(stream: ByteStream, rules: PickleRules) -> Any:
    """The content of one pickle; the stream is left behind its last byte.

    Args:
        stream (`ByteStream`): stands at the pickle's first byte.
        rules (`PickleRules`): which names are admitted.

    Returns:
        plain Python data, `Global`, `Record`, and what the rules make.

    Raises:
        ConversionError: the pickle is damaged, too long, or names something that the rules do not admit.
    """
    machine = _Machine(stream, rules)
    try:
        with warnings.catch_warnings():
            # pickletools reads old strings as Python source, and warns of their escapes.
            warnings.simplefilter("ignore", DeprecationWarning)
            for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], stream))):
                if count > MAX_OPCODES:
                    raise ConversionError(f"{stream.name} has more than {MAX_OPCODES} pickle opcodes")
                machine.step(opcode.name, argument)
        return machine.result()
    except ConversionError:
        raise
    # Whatever a damaged pickle provokes in pickletools and in the machine's own lists and dictionaries.
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, EOFError) as error:
        raise ConversionError(
            f"{stream.name} is no whole pickle: {_first_line(error)}, near byte {stream.tell()}",
            hint="it is damaged, or no file of this kind",
        ) from error


class _Machine:
    """The pickle machine's stack, marks and memo."""

    def __init__(self, stream: ByteStream, rules: PickleRules) -> None:
        self.stream, self.rules = stream, rules
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Do one opcode."""
        if opcode in _PUSHES_ARGUMENT:
            self.stack.append(argument)
        elif opcode in _PUSHES:
            self.stack.append(_PUSHES[opcode]())
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        elif opcode not in _NOTHING:
            raise ConversionError(
                f"{self.stream.name} holds the pickle opcode {opcode}, which no checkpoint needs",
                hint="it is damaged, hostile or of an unknown kind",
            )

    def result(self) -> Any:
        """What STOP found on the stack."""
        if len(self.stack) != 1 or self.marks:
            raise ConversionError(f"{self.stream.name} is no whole pickle: {len(self.stack)} values are left over")
        return self.stack.pop()

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self, _: Any = None) -> list[Any]:
        values, self.stack = self.stack, self.marks.pop()
        return values

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def put(self, index: Any) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def push_tuple(self, size: int) -> None:
        if len(self.stack) < size:
            raise IndexError(f"a tuple of {size} from {len(self.stack)} values")
        start = len(self.stack) - size
        self.stack[start:] = [tuple(self.stack[start:])]

    def push_marked(self, make: Callable[[list[Any]], Any]) -> None:
        values = self.pop_mark()
        self.stack.append(make(values))

    def append(self, values: list[Any]) -> None:
        _of_type(self.stack[-1], list).extend(values)

    def add(self, values: list[Any]) -> None:
        _of_type(self.stack[-1], set).update(map(_key, values))

    def set_items(self, values: list[Any]) -> None:
        _of_type(self.stack[-1], dict).update(_pairs(values))

    def push_global(self, module: Any, name: Any) -> None:
        found = Global(_of_type(module, str), _of_type(name, str))
        if not self.rules.admits(found):
            raise ConversionError(
                f"{self.stream.name} names {str(found)[:200]}, which is not admitted; nothing of it was executed",
                hint="do not load this file with other tools unless you trust where it comes from",
            )
        self.stack.append(found)

    def stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.push_global(module, name)

    def call(self, _: Any) -> None:
        args, function = _of_type(self.stack.pop(), tuple), _of_type(self.stack.pop(), Global)
        self.stack.append(self.rules.construct(function, args))

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, dict):
            # Attributes of an OrderedDict, as torch puts on state dicts; only its items are of interest.
            _of_type(state, dict)
            return
        record = _of_type(target, Record)
        record.state = state
        self.rules.built(record, self.stream)

    def push_persistent(self, identity: Any) -> None:
        self.stack.append(self.rules.persistent(identity))


_PUSHES_ARGUMENT = frozenset(
    {
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "UNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
        "FLOAT",
        "BINFLOAT",
    }
)
_PUSHES: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_NOTHING = frozenset({"PROTO", "FRAME", "STOP"})
_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "TUPLE1": lambda machine, _: machine.push_tuple(1),
    "TUPLE2": lambda machine, _: machine.push_tuple(2),
    "TUPLE3": lambda machine, _: machine.push_tuple(3),
    "TUPLE": lambda machine, _: machine.push_marked(tuple),
    "LIST": lambda machine, _: machine.push_marked(list),
    "DICT": lambda machine, _: machine.push_marked(lambda values: dict(_pairs(values))),
    "FROZENSET": lambda machine, _: machine.push_marked(lambda values: frozenset(map(_key, values))),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_mark()),
    "ADDITEMS": lambda machine, _: machine.add(machine.pop_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(), machine.stack.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
    "GLOBAL": lambda machine, argument: machine.push_global(*argument.split(" ", 1)),
    "STACK_GLOBAL": _Machine.stack_global,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.call),
    "BUILD": _Machine.build,
    "PERSID": _Machine.push_persistent,
    "BINPERSID": lambda machine, _: machine.push_persistent(machine.stack.pop()),
}


def _of_type(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds):
        raise TypeError(f"{type(value).__name__} where {kinds[0].__name__} is needed")
    return value


def _pairs(values: list[Any]) -> list[tuple[Any, Any]]:
    return [(_key(key), value) for key, value in zip(values[::2], values[1::2], strict=True)]


def _key(value: Any) -> Any:
    """A key of a dictionary; nested tuples are refused, as hashing deep ones overflows the stack of the process."""
    if isinstance(value, tuple) and all(isinstance(part, _HASHABLE) for part in value):
        return value
    return _of_type(value, *_HASHABLE, Global, Record)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
