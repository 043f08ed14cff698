"""Bases by the names that suites give them, read once a process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import AutoProcessor

from ..core.embedded import DEFAULT_BASE, UNIT_MBART_BASE, resolve_base
from ..core.errors import AdapterError, ConfigurationError, FingerprintMismatchError
from ..core.locations import reading
from ..core.vocabulary import UnitVocabulary
from ..modeling.base_loading import base_fingerprint, known_vocabulary, load_base
from ..processors.loading import check_processor_config

__all__ = ["DEFAULT", "Base", "named_bases", "no_base", "open_base", "open_bases", "public_source", "suite_bases"]

DEFAULT = "default"
"""The name of the base that makes units of recordings."""

EMBEDDED = {DEFAULT: DEFAULT_BASE, "unit-mbart": UNIT_MBART_BASE}
"""Names that need no source, and the embedded base that each is by default."""


@dataclass(frozen=True)
class Base:
    """A frozen language model and what makes its units.

    Attributes:
        name (`str`): how suites call it.
        source (`str`): folder, Hub id or embedded name.
        processor (`SpeechUnitProcessor | None`): makes units; a language model alone has none.
        weights (`dict[str, Any]`): the fingerprint of the language model.
        units (`dict[str, Any] | None`): the fingerprint of the units: of what makes them, else the one that the
            language model records; `None` where neither is known.
        max_units (`int`): longest utterance, start token and separator included.
        vocabulary (`UnitVocabulary`): units → token ids.
    """

    name: str
    source: str
    processor: Any
    weights: dict[str, Any]
    units: dict[str, Any] | None
    max_units: int
    vocabulary: UnitVocabulary

    @property
    def description(self) -> dict[str, Any]:
        """Name and fingerprints, without a path."""
        units = None if self.units is None else self.units.get("digest")
        return {"name": self.name, "source": public_source(self.source), "weights": self.weights, "units": units}


def named_bases(given: Iterable[str]) -> dict[str, str]:
    """`NAME=SOURCE` of each, or a source alone for the default one.

    Args:
        given (`Iterable[str]`): texts of the command line.

    Returns:
        `dict[str, str]`: name → source; `"default"` and `"unit-mbart"` are embedded bases unless they are given.

    Raises:
        ConfigurationError: a name twice, or without a source.
    """
    return {**EMBEDDED, **_sources(given)}


def _sources(given: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, mark, source = text.partition("=")
        name, source = (name, source) if mark else (DEFAULT, text)
        if not name or not source:
            raise ConfigurationError(
                f"{text!r} is no base", hint="write NAME=FOLDER, or a folder or Hub id alone (bases, --base)"
            )
        if name in found:
            raise ConfigurationError(f"the base {name!r} is given twice: {found[name]} and {source}")
        found[name] = source
    return found


def suite_bases(suite: str, known: Iterable[str], given: Iterable[str]) -> dict[str, str]:
    """`named_bases`, of the names that a suite knows.

    Args:
        suite (`str`): name of the suite.
        known (`Iterable[str]`): names beside the default one.
        given (`Iterable[str]`): texts of the command line.

    Raises:
        ConfigurationError: another name, or what `named_bases` refuses.
    """
    sources = _sources(given)
    names = {DEFAULT, *known}
    unknown = sorted(set(sources) - names)
    if unknown:
        raise ConfigurationError(
            f"the suite {suite} knows no base {unknown[0]!r}", hint=f"it knows {', '.join(sorted(names))}"
        )
    return {name: source for name, source in {**EMBEDDED, **sources}.items() if name in names}


def no_base(name: str) -> str:
    """What is said of a base that was not given."""
    return f"no base is named {name}: give {name}=FOLDER in bases (--base)"


def open_bases(names: Iterable[str], sources: Mapping[str, str]) -> dict[str, Base]:
    """Read the bases that are given, before hours are spent on others.

    Args:
        names (`Iterable[str]`): of the bases that are needed.
        sources (`Mapping[str, str]`): name → folder, Hub id or embedded name.

    Raises:
        AdapterError, FingerprintMismatchError: see `open_base`.
    """
    return {name: open_base(name, sources[name]) for name in dict.fromkeys(names) if name in sources}


def open_base(name: str, source: str) -> Base:
    """Read a base.

    Args:
        name (`str`): how suites call it.
        source (`str`): folder, Hub id or embedded name.

    Raises:
        AdapterError: there is no such base.
        FingerprintMismatchError: its processor makes other units than its language model was trained on.
    """
    lm = load_base(source)
    processor = _processor(source)
    made, trained_on = getattr(processor, "fingerprint", None), lm.config.fingerprint
    if made and trained_on and made.get("digest") != trained_on.get("digest"):
        raise FingerprintMismatchError(
            f"the processor of the base {name} makes units {str(made.get('digest'))[:16]}, its language model was "
            f"trained on {str(trained_on.get('digest'))[:16]}",
            hint="give the base with the processor that it was saved with (bases, --base)",
        )
    return Base(
        name=name,
        source=source,
        processor=processor,
        weights=base_fingerprint(lm),
        units=made or trained_on,
        max_units=lm.max_utterance_tokens,
        vocabulary=known_vocabulary(processor, source) or UnitVocabulary.from_num_units(lm.num_units),
    )


def _processor(source: str) -> Any:
    folder = resolve_base(source)
    if os.path.isdir(folder) and not os.path.isfile(os.path.join(folder, "processor_config.json")):
        return None
    check_processor_config(folder)
    with reading(folder, AdapterError, "the processor of the base"):
        return AutoProcessor.from_pretrained(folder)


def public_source(source: str) -> str:
    """Of a folder its last name alone: results travel."""
    return os.path.basename(os.path.normpath(source)) if os.path.isdir(source) else source
