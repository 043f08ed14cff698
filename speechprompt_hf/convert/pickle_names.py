"""Names that occur in every kind of checkpoint: containers and numpy's own."""

from __future__ import annotations

from typing import Any

from .byte_stream import ByteStream
from .errors import ConversionError
from .pickle_machine import Global, Record

__all__ = ["PlainRules"]

_BUILTINS = ("builtins", "__builtin__")
# Types that describe settings; they are never called. Protocol 2 calls int and str by their names in Python 2.
_TYPES = ("int", "long", "float", "bool", "str", "unicode", "bytes", "list", "dict", "tuple", "object", "type")
_NUMPY = (
    "dtype",
    "ndarray",
    *(f"{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
)
_PLAIN = frozenset(
    {
        *(f"{module}.{name}" for module in _BUILTINS for name in (*_TYPES, "set", "frozenset", "bytearray")),
        *(f"collections.{name}" for name in ("OrderedDict", "defaultdict", "Counter")),
        *(f"numpy.{name}" for name in _NUMPY),
        "_codecs.encode",
        "copyreg._reconstructor",
        "copy_reg._reconstructor",
    }
)


class PlainRules:
    """Admits containers and numpy's names, and whatever a child class adds.

    Args:
        names (`frozenset[str]`): further names that are admitted.
        packages (`tuple[str, ...]`): packages whose every name is admitted, as a name.
    """

    def __init__(self, names: frozenset[str] = frozenset(), packages: tuple[str, ...] = ()) -> None:
        self.names, self.packages = names | _PLAIN, packages

    def admits(self, name: Global) -> bool:
        """Whether the name may occur at all."""
        return str(name) in self.names or name.module.split(".")[0] in self.packages

    def construct(self, name: Global, args: tuple[Any, ...]) -> Any:
        """Containers as containers, everything else as a `Record`.

        Raises:
            ConversionError: a container would be made of something else than plain data.
        """
        path = str(name)
        if path in ("collections.OrderedDict", "collections.defaultdict", "collections.Counter"):
            return _dictionary(args)
        if name.module in _BUILTINS:
            return _builtin(name, args)
        if path == "_codecs.encode":
            return _encoded(args)
        if path.endswith("_reconstructor"):
            if not args or not isinstance(args[0], Global):
                raise ConversionError(f"{path} is called with something that is no name")
            return Record(args[0], args[1:])
        return Record(name, args)

    def built(self, record: Record, stream: ByteStream) -> None:
        """Nothing follows a record in the stream."""

    def persistent(self, identity: Any) -> Any:
        """Refused: only torch's files have references to something outside the pickle."""
        raise ConversionError("the pickle refers to something outside it", hint="it is of an unknown kind")


def _dictionary(args: tuple[Any, ...]) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for part in args:
        if isinstance(part, dict):
            made.update(part)
        elif isinstance(part, list):
            made.update(map(_pair, part))
        elif part is not None and not isinstance(part, Global):
            raise ConversionError(f"a dictionary is made of {type(part).__name__}")
    return made


def _pair(value: Any) -> tuple[Any, Any]:
    if not isinstance(value, list | tuple) or len(value) != 2 or not _is_key(value[0]):
        raise ConversionError("a dictionary is made of something else than keys and values")
    return value[0], value[1]


def _builtin(name: Global, args: tuple[Any, ...]) -> Any:
    values = args[0] if args else []
    if name.name in ("set", "frozenset") and isinstance(values, list) and all(map(_is_key, values)):
        return set(values)
    if name.name == "bytes" and not args:
        return b""
    if name.name == "bytearray" and isinstance(values, bytes):
        return values
    # object() and its kin, in a Record: int("9" * 10**9) and bytes(10**12) would be work.
    return Record(name, args)


def _is_key(value: Any) -> bool:
    return isinstance(value, str | int | float | bytes | None)


def _encoded(args: tuple[Any, ...]) -> bytes:
    """Bytes as protocol 2 writes them: as text in latin1."""
    if len(args) != 2 or not isinstance(args[0], str) or args[1] not in ("latin1", "latin-1"):
        raise ConversionError("_codecs.encode is called with something else than latin1 text")
    return args[0].encode("latin-1")
