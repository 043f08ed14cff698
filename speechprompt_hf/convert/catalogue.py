"""Names instead of addresses: which checkpoint is meant, where it lies, and what belongs with it."""

from __future__ import annotations

import difflib
from typing import Any

from ..core.errors import ConfigurationError
from . import catalogue_entries
from .catalogue_types import CatalogueEntry, CatalogueFile, Kind

__all__ = ["NOT_LISTED", "SERVER", "address", "belongs_with", "entries_of", "entry_record", "find_entry", "has_entry"]

SERVER = "https://dl.fbaipublicfiles.com"
"""Where all of it was published; another server with the same paths may take its place."""

NOT_LISTED = (
    "Out of scope: the encoders of the cpc, logmel and w2v2 language models (these work from units you already have), "
    "and pGSLM. No trained prompts were published. Language models of TWIST and slamkit are folders: "
    "speechprompt convert causal-lm makes bases of them, train --base FOLDER trains on one as it is, and "
    "push-base FOLDER publishes it as a base."
)
"""What a reader of the list may look for in vain."""


def entries_of(kind: Kind | None = None) -> tuple[CatalogueEntry, ...]:
    """The entries, of one kind or all.

    Args:
        kind (`str`, *optional*): `"encoder"`, `"quantizer"`, `"gslm"`, `"unit-mbart"`, `"hifigan"`.
    """
    return tuple(entry for entry in catalogue_entries.ENTRIES if kind in (None, entry.kind))


def has_entry(kind: Kind, name: str) -> bool:
    """Whether there is an entry of this name, converted or not."""
    return any(entry.name == name for entry in entries_of(kind))


def find_entry(kind: Kind, name: str) -> CatalogueEntry:
    """The entry of a name.

    Args:
        kind (`str`): as in [`entries_of`].
        name (`str`): for example `"hubert-base-km100"`.

    Raises:
        ConfigurationError: there is none, or it is listed only to say that it is not converted.
    """
    known = {entry.name: entry for entry in entries_of(kind)}
    if name not in known:
        others = sorted({entry.kind for entry in entries_of() if entry.name == name})
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = "speechprompt convert --list has the names, in Python speechprompt_hf.convert.catalogue.entries_of()"
        if others:
            hint = f"there is one of kind {' and '.join(others)}: speechprompt convert {others[0]} {name} …"
        elif near:
            hint = f"did you mean {' or '.join(near)}? {hint}"
        raise ConfigurationError(f"there is no file {name}, and no {kind} of that name in the catalogue", hint=hint)
    entry = known[name]
    if entry.refused is not None:
        raise ConfigurationError(f"the {kind} {name} is not converted: {entry.refused}")
    return entry


def belongs_with(entry: CatalogueEntry) -> dict[str, list[str]]:
    """Names of the entries of other kinds that fit an entry: its encoder, and what has the same units.

    Args:
        entry (`CatalogueEntry`): an encoder fits every alphabet that was made of its features.

    Returns:
        `dict[str, list[str]]`: kind → names.
    """
    fitting: dict[str, list[str]] = {}
    for other in entries_of():
        same_units = entry.units is not None and other.units == entry.units
        is_encoder_of = (entry.kind == "encoder" and other.encoder == entry.name) or (
            other.kind == "encoder" and entry.encoder == other.name
        )
        if other.kind != entry.kind and (same_units or is_encoder_of):
            fitting.setdefault(other.kind, []).append(other.name)
    return fitting


def address(file: CatalogueFile, server: str = SERVER) -> str:
    """The URL of a file.

    Args:
        file (`CatalogueFile`): of an entry.
        server (`str`, defaults to the publishers'): address of a server with the same paths.
    """
    return f"{server.rstrip('/')}/{file.path}"


def entry_record(entry: CatalogueEntry, server: str = SERVER) -> dict[str, Any]:
    """An entry as JSON values.

    Args:
        entry (`CatalogueEntry`): one of [`entries_of`].
        server (`str`, defaults to the publishers'): as in [`address`].

    Returns:
        `dict`: `kind`, `name`, `url`, `sha256`, `companion_url`, `companion_sha256`, `units`, `encoder`, `layer`,
        `num_units`, `licence`, `converted`, `reason`, `belongs_with`; `None` for what nobody stated.
    """
    companion = entry.companion
    return {
        "kind": entry.kind,
        "name": entry.name,
        "url": address(entry.file, server),
        "sha256": entry.file.sha256,
        "companion_url": None if companion is None else address(companion, server),
        "companion_sha256": None if companion is None else companion.sha256,
        "units": entry.units,
        "encoder": entry.encoder,
        "layer": entry.layer,
        "num_units": entry.num_units,
        "licence": entry.licence,
        "converted": entry.refused is None,
        "reason": entry.refused,
        "belongs_with": belongs_with(entry),
    }
