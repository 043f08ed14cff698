"""YAML to frozen records, strictly: an unknown key, a missing one or a wrong type is an error that names its place."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from ..core.errors import ConfigurationError, DatasetError

__all__ = ["check_at_least", "check_keys", "check_name", "placed", "read_record", "read_yaml"]

Record = TypeVar("Record")


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is written twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As in `SafeLoader`."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"{repeated[0]!r} is written twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """The value in a YAML file; nothing but plain values is made.

    Raises:
        ConfigurationError: there is no such file, or it is no YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is no valid YAML: {error}") from error


def check_keys(kind: type[Any], value: Any, place: str) -> None:
    """Refuse what is no mapping, has a key that a dataclass does not know, or lacks one that it needs.

    Args:
        kind (`type`): the dataclass.
        value (`Any`): what YAML gave.
        place (`str`): how errors call the mapping.

    Raises:
        ConfigurationError: the error names the key.
    """
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{place} is {_short(value)}", hint="write a mapping of names and values")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(str(key) for key in value if key not in fields)
    if unknown:
        raise ConfigurationError(f"{place} has the unknown key {unknown[0]!r}", hint=f"known are {', '.join(fields)}")
    optional = (dataclasses.MISSING, dataclasses.MISSING)
    for name, field in fields.items():
        if name not in value and (field.default, field.default_factory) == optional:
            raise ConfigurationError(f"{place} lacks {name!r}", hint="it must be given")


def read_record(kind: type[Record], value: Any, place: str) -> Record:
    """A frozen dataclass of a mapping.

    Args:
        kind (`type`): the dataclass; its annotations say what is allowed.
        value (`Any`): what YAML gave.
        place (`str`): how errors call the mapping, for example `"suite.yaml: datasets[2]"`.

    Returns:
        the record.

    Raises:
        ConfigurationError: no mapping, an unknown key, a missing one, a wrong type, or what the record itself refuses.
    """
    check_keys(kind, value, place)
    hints = get_type_hints(kind)
    values = {name: _convert(hints[name], item, f"{place}: {name}") for name, item in value.items()}
    with placed(place):
        return kind(**values)


def _convert(kind: Any, value: Any, place: str) -> Any:
    """The value as the annotation wants it: lists as tuples, mappings as records."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, place)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            raise ConfigurationError(f"{place} is {_short(value)}", hint=f"one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigurationError(f"{place} is {_short(value)}", hint="write a list")
        return tuple(_convert(arguments[0], item, f"{place}[{index}]") for index, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise ConfigurationError(f"{place} is {_short(value)}", hint="write a mapping of names and values")
        return {key: _convert(arguments[1], item, f"{place}: {key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        if isinstance(value, kind):  # type: ignore[arg-type]
            return value
        return read_record(kind, value, place)  # type: ignore[arg-type]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigurationError(f"{place} is {_short(value)}", hint=f"give {_NAMES.get(kind, kind.__name__)}")
    return value


def _convert_union(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    """`X | None`, or text or a record: the kind is told by the value."""
    if value is None and type(None) in kinds:
        return None
    rest = [kind for kind in kinds if kind is not type(None)]
    if len(rest) > 1:
        plain = [kind for kind in rest if isinstance(kind, type) and isinstance(value, kind)]
        rest = plain or rest[-1:]
    return _convert(rest[0], value, place)


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Let errors of a block begin with a place.

    Args:
        place (`str`): what they are about.

    Raises:
        ConfigurationError, DatasetError: those of the block.
    """
    try:
        yield
    except (ConfigurationError, DatasetError) as error:
        raise type(error)(f"{place}: {error.args[0]}", hint=error.hint, is_mistake=error.is_mistake) from error


def check_name(what: str, name: str, forbidden: str = "/*?[]\\| ") -> None:
    """Refuse a name that is no name of a folder, or that `--only` could not tell from a pattern.

    Args:
        what (`str`): what has the name, for the error.
        name (`str`): the name.
        forbidden (`str`): characters.

    Raises:
        ConfigurationError: it is empty, begins with a point or has one of the characters.
    """
    if not name or name.startswith(".") or set(name) & set(forbidden):
        raise ConfigurationError(f"{what} is called {name!r}", hint="letters, digits, - and _")


def check_at_least(record: Any, limits: Mapping[str, int]) -> None:
    """Refuse numbers of a record that are too small.

    Args:
        record (`Any`): with numbers, tuples of numbers, or `None`.
        limits (`Mapping[str, int]`): field → the least that is allowed.

    Raises:
        ConfigurationError: the error names the field and the number.
    """
    for name, least in limits.items():
        value = getattr(record, name)
        numbers = value if isinstance(value, tuple) else () if value is None else (value,)
        for number in numbers:
            if number < least:
                verb = "has" if isinstance(value, tuple) else "is"
                raise ConfigurationError(f"{name} {verb} {number}", hint=f"at least {least}")


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
