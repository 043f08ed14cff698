"""Labels of an official prompt: `verbalizer.json`, `verbal.json`, or the class order of a linear verbalizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.vocabulary import EOS_TOKEN_ID, SPECIAL_TOKENS, UnitVocabulary
from .errors import ConversionError

__all__ = ["Classes", "JsonOrPath", "Labels", "read_classes", "read_labels"]

JsonOrPath = Mapping[str, Any] | Sequence[Any] | str | Path
"""A JSON file, or what stands in it."""

_MAX_BYTES = 2**23
_MAX_LABELS = 100_000
_MAX_POSITIONS = 100
_NUM_SPECIAL = len(SPECIAL_TOKENS)
_END = SPECIAL_TOKENS[EOS_TOKEN_ID]


@dataclass(frozen=True)
class Labels:
    """Label tokens.

    Args:
        symbols (`tuple[str, ...]`): what upstream's data call each label.
        names (`tuple[str, ...]`): what they are called here.
        tokens (`tuple[int, ...]`): the token that upstream predicts for each, and feeds back: a row of the linear
            verbalizer, or else a unit.
    """

    symbols: tuple[str, ...]
    names: tuple[str, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Classes:
    """Classes as label sequences.

    Args:
        names (`tuple[str, ...]`): class names.
        sequences (`tuple[tuple[int, ...], ...]`, *optional*): indices into the label names; one label a class
            without it.
        label_names (`tuple[str, ...]`): the labels, with `</s>` at the end where some sequences are shorter.
        tokens (`tuple[int, ...]`): token of each label.
    """

    names: tuple[str, ...]
    sequences: tuple[tuple[int, ...], ...] | None
    label_names: tuple[str, ...]
    tokens: tuple[int, ...]


def read_labels(
    verbalizer: JsonOrPath | None,
    task: str | None,
    labels: JsonOrPath | None,
    vocabulary: UnitVocabulary,
    num_rows: int | None,
) -> Labels:
    """The labels of a prompt, in class order.

    Args:
        verbalizer (`Mapping | str | Path`, *optional*): label → unit, text or number, as `verbalizer.json` of v2,
            or with tasks above it, as `verbal.json` of v1.
        task (`str`, *optional*): the task in `verbal.json`, such as `"KS"`.
        labels (`Sequence | str | Path`, *optional*): label names: the class order; where the verbalizer's labels are
            the numbers 0 … n - 1, their names in this order.
        vocabulary (`UnitVocabulary`): of the language model.
        num_rows (`int`, *optional*): rows C + 4 of the linear verbalizer; `None` for a fixed one.

    Raises:
        ConversionError: labels are absent, repeated, or have a unit that the vocabulary or the verbalizer lacks.
    """
    names = None if labels is None else _texts(_given(labels, "labels"), "labels")
    if verbalizer is None:
        if num_rows is None:
            raise ConversionError(
                "the checkpoint has no linear verbalizer, and no verbalizer.json or verbal.json was given",
                hint="give the file that maps labels to units, which lies beside the training data: verbalizer=… "
                "(--verbalizer)",
            )
        if names is None:
            raise ConversionError(
                f"the linear verbalizer has {num_rows - _NUM_SPECIAL} labels, and nothing says which",
                hint="give verbalizer.json (--verbalizer), or the label names in class order (--labels)",
            )
        if len(names) != num_rows - _NUM_SPECIAL:
            raise ConversionError(
                f"{len(names)} labels were given, the linear verbalizer has {num_rows - _NUM_SPECIAL}"
            )
        return Labels(names, names, tuple(range(_NUM_SPECIAL, num_rows)))
    units = _mapping(_given(verbalizer, "the verbalizer"), task)
    symbols, names = _named(tuple(units), names)
    return Labels(symbols, names, tuple(_token(symbol, units[symbol], vocabulary, num_rows) for symbol in symbols))


def read_classes(classes: JsonOrPath | None, labels: Labels) -> Classes:
    """The classes that the labels make.

    Args:
        classes (`Mapping | Sequence | str | Path`, *optional*): class name → its labels, or the label sequences alone,
            which are then the names; one class a label without it. Where some sequences are shorter than others,
            `</s>` follows them, as upstream predicts it.
        labels (`Labels`): the labels.

    Raises:
        ConversionError: fewer than two classes, a label that is not there, or two classes of one sequence or name.
    """
    if classes is None:
        _check_classes(labels.names)
        return Classes(labels.names, None, labels.names, labels.tokens)
    given = _given(classes, "classes")
    if isinstance(given, Mapping):
        rows = [(str(name), _texts(sequence, f"class {str(name)[:60]!r}", True)) for name, sequence in given.items()]
    elif isinstance(given, Sequence) and not isinstance(given, str):
        parts = [_texts(sequence, "a class", True) for sequence in given]
        rows = [(" ".join(sequence), sequence) for sequence in parts]
    else:
        raise ConversionError(f"classes are a {type(given).__name__} instead of label sequences")
    index = {symbol: number for number, symbol in enumerate(labels.symbols)}
    index |= {name: number for number, name in enumerate(labels.names)}
    longest = max((len(sequence) for _, sequence in rows), default=0)
    sequences = []
    for name, sequence in rows:
        unknown = [label for label in sequence if label not in index]
        if unknown:
            raise ConversionError(
                f"class {name[:100]!r} has the label {unknown[0][:60]!r}, which the verbalizer lacks",
                hint=f"it has {', '.join(repr(label[:30]) for label in labels.names[:10])}",
            )
        ends = longest - len(sequence)
        sequences.append((*(index[label] for label in sequence), *[len(labels.names)] * ends))
    _check_classes([name for name, _ in rows])
    if len(set(sequences)) != len(sequences):
        raise ConversionError("two classes have the same labels in the same order")
    if not any(len(labels.names) in sequence for sequence in sequences):
        return Classes(tuple(name for name, _ in rows), tuple(sequences), labels.names, labels.tokens)
    return Classes(
        tuple(name for name, _ in rows), tuple(sequences), (*labels.names, _END), (*labels.tokens, EOS_TOKEN_ID)
    )


def _check_classes(names: Sequence[str]) -> None:
    if len(names) < 2:
        raise ConversionError(f"{len(names)} class(es): {', '.join(names)[:100]}", hint="a classifier needs two")
    repeated = [name for name, number in _counted(names).items() if number > 1]
    if repeated:
        raise ConversionError(f"two classes are called {repeated[0][:100]!r}")


def _named(symbols: tuple[str, ...], names: tuple[str, ...] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The verbalizer's labels in class order, and their names."""
    if names is None:
        return symbols, symbols
    if set(names) == set(symbols):
        return names, names
    if set(symbols) == {str(number) for number in range(len(names))}:
        return tuple(str(number) for number in range(len(names))), names
    missing = sorted(set(symbols) - set(names))[:5]
    raise ConversionError(
        f"{len(names)} labels were given, the verbalizer has {len(symbols)}, among them "
        f"{', '.join(repr(symbol[:30]) for symbol in missing)}",
        hint="give the verbalizer's labels in class order, or a name for each where they are numbers",
    )


def _token(symbol: str, unit: Any, vocabulary: UnitVocabulary, num_rows: int | None) -> int:
    if type(unit) is int:
        unit = str(unit)
    if not isinstance(unit, str):
        raise ConversionError(
            f"the verbalizer maps {symbol[:60]!r} to a {type(unit).__name__} instead of a unit",
            hint='a unit is a whole number, 7 or "7"',
        )
    # fairseq reads what its dictionary lacks as <unk>, without a word.
    if unit not in vocabulary.symbols:
        raise ConversionError(
            f"the verbalizer maps {symbol[:60]!r} to {unit[:60]!r}, which is no unit of the base",
            hint=f"its dict.txt lists {vocabulary.num_units} units",
        )
    token = vocabulary.encode([unit])[0]
    if num_rows is not None and token >= num_rows:
        raise ConversionError(
            f"the verbalizer maps {symbol[:60]!r} to unit {unit}, which is token {token}; the linear verbalizer has "
            f"{num_rows} rows",
            hint="it is the file of another run; a linear verbalizer goes with the method 'learnable'",
        )
    return token


def _mapping(value: Any, task: str | None) -> dict[str, Any]:
    """Label → unit."""
    if isinstance(value, Mapping) and value and all(isinstance(inner, Mapping) for inner in value.values()):
        tasks = ", ".join(repr(str(name)[:30]) for name in list(value)[:20])
        if task is None and len(value) > 1:
            raise ConversionError(f"the verbalizer is for several tasks: {tasks}", hint="say which: task=… (--task)")
        if task is not None and task not in value:
            raise ConversionError(f"the verbalizer has no task {task[:60]!r}", hint=f"it has {tasks}")
        value = next(iter(value.values())) if task is None else value[task]
    elif task is not None:
        raise ConversionError(f"task {task[:60]!r} was given, and the verbalizer is of a single one")
    if not isinstance(value, Mapping) or not value or len(value) > _MAX_LABELS:
        raise ConversionError(f"the verbalizer is no object of 1 to {_MAX_LABELS} labels")
    return {str(label): unit for label, unit in value.items()}


def _texts(value: Any, what: str, short: bool = False) -> tuple[str, ...]:
    """A list of distinct texts; sequences of a class may repeat them, and are short."""
    limit = _MAX_POSITIONS if short else _MAX_LABELS
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise ConversionError(f"{what}: a list of texts is needed, not {type(value).__name__}")
    if not 1 <= len(value) <= limit:
        raise ConversionError(f"{what}: {len(value)} texts", hint=f"1 to {limit}")
    if not short and len(set(value)) != len(value):
        repeated = next(text for text, number in _counted(value).items() if number > 1)
        raise ConversionError(f"{what}: {repeated[:60]!r} occurs twice")
    return tuple(value)


def _counted(values: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts


def _given(value: JsonOrPath, what: str) -> Any:
    """The value itself, or what stands in its file."""
    if not isinstance(value, str | Path):
        return value
    path = Path(value)
    if not path.is_file():
        raise ConversionError(f"there is no file {path} for {what}", hint="check the spelling")
    if path.stat().st_size > _MAX_BYTES:
        raise ConversionError(f"{path} has {path.stat().st_size} bytes, more than {_MAX_BYTES}")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path} is not valid JSON: {error}"[:300]) from error
