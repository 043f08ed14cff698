"""The regular expressions in files of output tokenizers: foreign ones are not run."""

from __future__ import annotations

__all__ = [
    "ANY_CHARACTER",
    "BLANKS",
    "BLANKS_AFTER_TAGS",
    "BLANKS_BEFORE_TAGS",
    "OUTER_BLANKS",
    "OUTPUT_PATTERNS",
]

ANY_CHARACTER = r"[\s\S]"
BLANKS = r"[\s\x1c-\x1f\x85]+"
BLANKS_BEFORE_TAGS = r" *(?=\[)"
BLANKS_AFTER_TAGS = r"(?<=\]) *"
OUTER_BLANKS = r"^ +| +$"

OUTPUT_PATTERNS = (ANY_CHARACTER, BLANKS, BLANKS_BEFORE_TAGS, BLANKS_AFTER_TAGS, OUTER_BLANKS)
"""All that output tokenizers of this package are made with."""
