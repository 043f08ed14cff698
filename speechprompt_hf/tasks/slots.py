"""Slots as text: `[size] large [/size] [roast] dark [/roast]`, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from ..core.errors import LabelError

__all__ = ["SlotPairs", "map_slot_values", "read_slots", "slot_tags", "slots_to_text", "text_to_slots"]

SlotPairs = tuple[tuple[str, str], ...]
"""Names of slots and their values, in order; a name may come twice."""

_NAME = re.compile(r"[^\s\[\]/][^\s\[\]]*")
_TAG = re.compile(r"\[/?[^\s\[\]/][^\s\[\]]*\]")
_SLOT = re.compile(r"\[([^\s\[\]/][^\s\[\]]*)\](.*?)\[/\1\]", re.DOTALL)


def slot_tags(names: Iterable[str]) -> tuple[str, ...]:
    """The opening and the closing tag of each slot.

    Args:
        names (`Iterable[str]`): names of slots.
    """
    return tuple(tag for name in names for tag in (f"[{name}]", f"[/{name}]"))


def slots_to_text(slots: Mapping[str, str | None] | Iterable[tuple[str, str | None]]) -> str:
    """Slots as one text, each value between the tags of its slot.

    Args:
        slots (`Mapping[str, str | None] | Iterable[tuple[str, str | None]]`): values by name, or pairs; `None` and
            empty values are absent slots.

    Returns:
        `str`: `text_to_slots` of it are the same pairs; blanks in values are single ones. No slot at all is `""`.

    Raises:
        LabelError: a name has a blank or a bracket, or begins with a slash; a value has a bracket.
    """
    pairs = slots.items() if isinstance(slots, Mapping) else slots
    parts = []
    for name, value in pairs:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise LabelError(
                f"a slot is called {name!r}", hint="names have no blanks, no brackets and no slash at the start"
            )
        words = [] if value is None else str(value).split()
        if any("[" in word or "]" in word for word in words):
            raise LabelError(f"the value {value!r} of slot {name!r} has a bracket", hint="take the brackets out")
        if words:
            parts.append(f"[{name}] {' '.join(words)} [/{name}]")
    return " ".join(parts)


def text_to_slots(text: str) -> SlotPairs:
    """The slots of a text that are opened and closed; whatever a model says beside them is passed over.

    Args:
        text (`str`): as `slots_to_text` makes it, or what a model said.

    Returns:
        `tuple[tuple[str, str], ...]`: names and values in order. Tags within a value, and slots without a value, are
            left out.
    """
    found = ((match[1], " ".join(_TAG.sub(" ", match[2]).split())) for match in _SLOT.finditer(text))
    return tuple((name, value) for name, value in found if value)


def map_slot_values(function: Callable[[str], str], text: str) -> str:
    """A text of slots with its values replaced; tags stay, also those that are not opened or closed.

    Args:
        function (`Callable[[str], str]`): value → new value.
        text (`str`): as `slots_to_text` makes it, or what a model said.
    """
    parts, end = list[str](), 0
    for tag in _TAG.finditer(text):
        parts += [function(text[end : tag.start()]), tag[0]]
        end = tag.end()
    return " ".join(" ".join([*parts, function(text[end:])]).split())


def read_slots(value: Any) -> SlotPairs:
    """The slots of one column's value.

    Args:
        value (`Any`): a mapping or its JSON text (name → value, null for absent ones), or a text with tags; `None` and
            `""` have no slots.

    Raises:
        LabelError: it is something else.
    """
    if value is None or value == "":
        return ()
    if isinstance(value, str) and _TAG.search(value):
        return text_to_slots(value)
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, Mapping):
        raise LabelError(
            f"{str(value)[:80]!r} holds no slots",
            hint='one column of slots holds {"slot": "value"} as JSON, or "[slot] value [/slot]"',
        )
    return tuple((str(name), str(inner)) for name, inner in value.items() if inner not in (None, ""))
