"""The regular expressions in files of output tokenizers: foreign ones are not run."""

from __future__ import annotations

__all__ = ["ANY_CHARACTER", "BLANKS", "OUTPUT_PATTERNS"]

ANY_CHARACTER = r"[\s\S]"
BLANKS = r"[\s\x1c-\x1f\x85]+"

OUTPUT_PATTERNS = (ANY_CHARACTER, BLANKS)
"""All that `processors.build_output_tokenizer` writes."""
