"""Generated sections of a README between HTML comments, and what somebody wrote around or into them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..modeling.adapter_card import card_record, content_digest, mark_section

__all__ = ["Record", "merge_sections", "read_record", "text_outside", "write_record"]

_SECTION = re.compile(
    r"<!-- speechprompt:(?P<name>[a-z]+(?:-[a-z]+)*)(?: (?P<digest>[0-9a-f]{16}))? -->"
    r"(?P<text>.*?)<!-- /speechprompt:(?P=name) -->",
    re.DOTALL,
)
_RECORD = re.compile(r"<!-- speechprompt:record (?P<json>\{[^\r\n]*?\}) -->")


@dataclass
class Record:
    """What an earlier call generated, kept in a comment of the README itself.

    Attributes:
        metadata (`dict[str, str]`): metadata key → digest of the generated value.
        sections (`list[str]`): names of the generated sections.
        arguments (`dict`): what the card was asked for and a later call need not repeat.
    """

    metadata: dict[str, str] = field(default_factory=dict)
    sections: list[str] = field(default_factory=list)
    arguments: dict[str, Any] = field(default_factory=dict)


def read_record(body: str) -> Record:
    """The record in a README's text; an empty one where there is none, or where it was damaged."""
    found = _RECORD.search(body)
    try:
        values = json.loads(found["json"]) if found else {}
        metadata, sections = dict(values.get("metadata", {})), list(values.get("sections", []))
        return Record(metadata, sections, dict(values.get("arguments", {})))
    except (ValueError, TypeError, AttributeError):
        return Record()


def write_record(body: str, record: Record, line_break: str) -> str:
    """The text with the record put in its place, or at the end."""
    comment = card_record(vars(record))
    found = _RECORD.search(body)
    if found:
        return body[: found.start()] + comment + body[found.end() :]
    return _joined(body, comment, line_break) + line_break


def text_outside(body: str) -> str:
    """What stands in a README beside generated sections and the record."""
    return _RECORD.sub("", _SECTION.sub("", body))


def merge_sections(
    body: str,
    sections: Mapping[str, str],
    *,
    generated: Collection[str],
    known: Collection[str],
    overwrite: bool = False,
    line_break: str = "\n",
) -> tuple[str, list[str]]:
    """Put new texts into a README.

    Text outside the markers stays, character for character. A section that was not edited is replaced, or removed
    where there is no new text for it. An edited section stays, and one that was deleted stays away, unless
    `overwrite`. New sections come after the one before them in order, else at the end.

    Args:
        body (`str`): the README without its metadata.
        sections (`Mapping[str, str]`): name → new text, in order.
        generated (`Collection[str]`): names of the sections that an earlier call wrote.
        known (`Collection[str]`): names of all sections of this kind of card; others are left alone.
        overwrite (`bool`, defaults to `False`): replace edited sections too.
        line_break (`str`, *optional*): of generated text.

    Returns:
        `tuple[str, list[str]]`: the new text, and a sentence for each section that was kept.
    """
    body, notes, seen = _replaced(body, sections, known, overwrite, line_break)
    before: list[str] = []
    for name, text in sections.items():
        if name not in seen:
            if name in generated and not overwrite:
                notes.append(f"the section {name!r} was deleted and stays away")
            else:
                body = _inserted(body, mark_section(name, text, line_break), before, line_break)
        before.insert(0, name)
    return body, notes


def _replaced(
    body: str, sections: Mapping[str, str], known: Collection[str], overwrite: bool, line_break: str
) -> tuple[str, list[str], set[str]]:
    """The text with new sections in the place of their predecessors, notes, and the names that were met."""
    notes: list[str] = []
    seen: set[str] = set()
    parts: list[str] = []
    end = 0
    for found in _SECTION.finditer(body):
        name = found["name"]
        if name in seen or name not in known:
            continue
        seen.add(name)
        edited = found["digest"] != content_digest(found["text"])
        outside = body[end : found.start()]
        if edited and not overwrite:
            notes.append(f"the section {name!r} was edited and stays as it is")
            parts += [outside, found[0]]
        elif name in sections:
            parts += [outside, mark_section(name, sections[name], line_break)]
        else:
            parts.append(outside.removesuffix(line_break * 2))
        end = found.end()
    return "".join([*parts, body[end:]]), notes, seen


def _inserted(body: str, section: str, before: Collection[str], line_break: str) -> str:
    """The text with a section after the nearest of `before`, else at the end but before the record."""
    places = {found["name"]: found.end() for found in reversed(list(_SECTION.finditer(body)))}
    for name in before:
        if name in places:
            return body[: places[name]] + line_break * 2 + section + body[places[name] :]
    record = _RECORD.search(body)
    if record:
        start = record.start()
        return _joined(body[:start], section, line_break) + line_break * 2 + body[start:]
    return _joined(body, section, line_break) + line_break


def _joined(first: str, second: str, line_break: str) -> str:
    """Two texts with an empty line between them; the first stays as it is."""
    if not first:
        return second
    ends = len(first) - len(first.rstrip("\r\n"))
    lines = first[len(first) - ends :].count("\n")
    return first + line_break * max(0, 2 - lines) + second
