"""Named ways to make texts comparable before they are taught and before they are measured."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..core.errors import ConfigurationError

__all__ = ["NORMALIZATIONS", "normalize_text"]

# Letters on both sides: "don't" keeps its apostrophe, 'quoted' words lose theirs.
_NO_APOSTROPHE = re.compile(r"(?<![^\W_])'|'(?![^\W_])")
_STRESS = re.compile(r"(?<=\D)[0-2]$")
_WORD_BAR = "|"


def _none(text: str) -> str:
    return " ".join(text.split())


def _lower(text: str) -> str:
    text = unicodedata.normalize("NFC", text).lower().replace("\u2019", "'")
    kept = "".join(
        character if character == "'" or unicodedata.category(character)[0] in "LMN" else " " for character in text
    )
    return " ".join(_NO_APOSTROPHE.sub(" ", kept).split())


def _phones(text: str) -> str:
    return " ".join(_STRESS.sub("", phone) for phone in text.split() if phone != _WORD_BAR)


NORMALIZATIONS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {"none": _none, "lower": _lower, "phones": _phones}
)
"""By name. `none`: blanks at the ends and several in a row are one. `lower`: also lower case, and whatever is neither
letter, digit nor an apostrophe within a word is a blank. `phones`: symbols between blanks without the stress digits of
ARPABET, and without word bars `|`."""


def normalize_text(text: str, name: str) -> str:
    """A text as a named normalisation has it; doing it twice changes nothing.

    Args:
        text (`str`): any text.
        name (`str`): of `NORMALIZATIONS`.

    Raises:
        ConfigurationError: there is no normalisation of that name.
    """
    if name not in NORMALIZATIONS:
        raise ConfigurationError(f"normalization is {name!r}", hint=f"one of {', '.join(NORMALIZATIONS)}")
    return NORMALIZATIONS[name](text)
