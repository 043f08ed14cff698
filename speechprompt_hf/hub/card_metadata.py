"""The YAML metadata of a README: read, merged key by key with what somebody changed, written with comments kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard
from huggingface_hub.utils import yaml_dump

from ..core.errors import ConfigurationError
from ..core.files import write_text
from ..modeling.adapter_card import value_digest

__all__ = ["Readme", "WrittenCard", "merge_metadata", "read_readme", "write_readme"]

# As huggingface_hub and the Hub itself find the block.
_BLOCK = re.compile(r"^(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|$))")
_EMPTY_BLOCK = re.compile(r"^(\s*---(?:\r\n|\n))()(---[ \t]*(?:\r\n|\n|$))")


class WrittenCard(ModelCard):
    """A model card as it was written.

    Attributes:
        kept (`tuple[str, ...]`): a sentence for each generated part that somebody had edited or deleted and that was
            therefore left as it is; `overwrite=True` replaces it.
    """

    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Readme:
    """A README taken apart.

    Attributes:
        block (`str`): its YAML, without the lines of hyphens; empty where there is none.
        metadata (`dict`): the YAML's value.
        body (`str`): the rest, character for character.
        line_break (`str`): of its first line.
    """

    block: str = ""
    metadata: Mapping[str, Any] | None = None
    body: str = ""
    line_break: str = "\n"

    @property
    def values(self) -> dict[str, Any]:
        """A copy of the metadata."""
        return dict(self.metadata or {})


def read_readme(path: Path) -> Readme:
    """Take a README apart; an absent file is an empty one.

    Raises:
        ConfigurationError: the file is not UTF-8, or its metadata are not YAML, or no mapping.
    """
    if not path.is_file():
        return Readme()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8: {error}", hint="save it as UTF-8, or remove it") from error
    line_break = "\r\n" if re.match(r"[^\n]*\r\n", text) else "\n"
    found = _EMPTY_BLOCK.match(text) or _BLOCK.match(text)
    if not found:
        return Readme(body=text, line_break=line_break)
    try:
        metadata = yaml.safe_load(found[2])
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 2}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigurationError(
            f"the metadata of {path} are not valid YAML{place}: {problem}",
            hint="mend the block between the two lines of hyphens, or remove the file; nothing was written",
        ) from error
    if metadata is not None and (not isinstance(metadata, dict) or not all(isinstance(key, str) for key in metadata)):
        raise ConfigurationError(
            f"the metadata of {path} are no mapping of names to values",
            hint="write lines such as 'license: mit' between the two lines of hyphens; nothing was written",
        )
    return Readme(found[2], metadata, text[found.end() :], line_break)


def merge_metadata(
    present: Mapping[str, Any],
    generated: Mapping[str, Any],
    recorded: Mapping[str, str],
    *,
    overwrite: bool = False,
) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Merge metadata key by key.

    A key is generated as long as its value is the one that an earlier call wrote. Keys that somebody added or changed
    stay, and keys that somebody removed stay away, unless `overwrite`, which only concerns generated keys.

    Args:
        present (`Mapping`): what the README has.
        generated (`Mapping`): what it shall have, without `None`.
        recorded (`Mapping[str, str]`): key → digest of the value that an earlier call wrote.
        overwrite (`bool`, defaults to `False`): replace changed values of generated keys too.

    Returns:
        `tuple`: the metadata, the new record, and a sentence for each key that was kept.
    """
    merged = dict(present)
    record: dict[str, str] = {}
    notes: list[str] = []
    for key in recorded:
        if key not in generated and key in present and value_digest(present[key]) == recorded[key]:
            del merged[key]
    for key, value in generated.items():
        deleted = key in recorded and key not in present
        changed = key in present and recorded.get(key) != value_digest(present[key])
        if deleted and not overwrite:
            record[key] = recorded[key]
            notes.append(f"the metadata key {key!r} was removed and stays away")
        elif changed and not overwrite:
            if present[key] != value:
                notes.append(
                    f"the metadata key {key!r} was set to {_short(present[key])} by somebody and stays; "
                    f"{_short(value)} was not written"
                )
        else:
            merged[key] = value
            record[key] = value_digest(value)
    return merged, record, notes


def write_readme(path: Path, readme: Readme, metadata: Mapping[str, Any], body: str, kept: list[str]) -> WrittenCard:
    """Write metadata and text, and return them as a card.

    Args:
        path (`Path`): of the README.
        readme (`Readme`): what was there before; comments and the order of its metadata stay.
        metadata (`Mapping`): the new metadata.
        body (`str`): the new text.
        kept (`list[str]`): of the card that is returned.

    Raises:
        ConfigurationError: the metadata that somebody wrote are YAML, but no metadata of a model card.
    """
    block = _edited_block(readme, metadata)
    line_break = readme.line_break
    text = f"---{line_break}{block}{line_break}---{line_break}{body}"
    try:
        card = WrittenCard(text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigurationError(
            f"the metadata of {path} are not those of a model card: {error}",
            hint="mend the key, or remove it; nothing was written",
        ) from error
    card.kept = tuple(kept)
    write_text(path, text)
    return card


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:56]} …"


def _dump(values: Mapping[str, Any], line_break: str) -> str:
    if not values:
        return ""
    text = yaml_dump(dict(values), sort_keys=False)
    # PyYAML writes some line breaks of Unicode in a way that it does not read back.
    if yaml.safe_load(text) != values:
        text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=False)
    return text.rstrip("\n").replace("\n", line_break)


def _edited_block(readme: Readme, metadata: Mapping[str, Any]) -> str:
    """The YAML with only those keys rewritten that have another value; all of it where that is not possible."""
    before, after = readme.values, dict(metadata)
    if before and before == after:
        return readme.block
    whole = _dump(after, readme.line_break)
    if not before:
        # A block of comments alone stays too.
        comments = readme.block.rstrip("\r\n") if readme.metadata is None else ""
        return readme.line_break.join(part for part in (comments, whole) if part)
    lines: list[str] = []
    done: set[str] = set()
    for key, chunk in _chunks(readme.block):
        if key is None or (key in after and before.get(key) == after[key]):
            lines += chunk
        else:
            if key in after:
                lines.append(_dump({key: after[key]}, readme.line_break))
            lines += _trailing_comments(chunk)
        done.add(key or "")
    added = {key: value for key, value in after.items() if key not in done}
    edited = readme.line_break.join([*lines, *([_dump(added, readme.line_break)] if added else [])])
    try:
        # Anchors, flow style and the like: such a block cannot be edited line by line.
        return edited if yaml.safe_load(edited) == after else whole
    except yaml.YAMLError:
        return whole


def _chunks(block: str) -> list[tuple[str | None, list[str]]]:
    """The lines of each top-level key, with those after it up to the next key; first those before all keys."""
    node = yaml.compose(block, Loader=yaml.SafeLoader)
    lines = re.split(r"\r\n|\n", block)
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    starts = [(str(key.value), key.start_mark.line) for key, _ in pairs]
    ends = [line for _, line in starts[1:]] + [len(lines)]
    first = starts[0][1] if starts else len(lines)
    head: list[tuple[str | None, list[str]]] = [(None, lines[:first])] if first else []
    return head + [(key, lines[start:end]) for (key, start), end in zip(starts, ends, strict=True)]


def _trailing_comments(chunk: list[str]) -> list[str]:
    """Comments and empty lines at the end of a key's lines: they belong to what follows."""
    kept = 0
    while kept < len(chunk) - 1 and (chunk[-1 - kept].startswith("#") or not chunk[-1 - kept].strip()):
        kept += 1
    return chunk[len(chunk) - kept :] if kept else []
