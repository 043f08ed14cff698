"""An output tokenizer comes from strangers: its file may hold only what this package writes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..core.errors import AdapterError
from ..core.output_patterns import OUTPUT_PATTERNS
from .untrusted import read_config_file

__all__ = ["check_tokenizer_file"]

# A replacement may make a text longer, and several of them exponentially so.
_MAX_CONTENT = 1
_KINDS = {
    "model": ("WordLevel", "BPE"),
    "normalizer": ("Sequence", "Replace", "Strip"),
    "pre_tokenizer": ("Split", "WhitespaceSplit", "Metaspace"),
    # The decoder Strip ends the process at an empty text.
    "decoder": ("Sequence", "Fuse", "Metaspace", "Replace"),
    "post_processor": ("TemplateProcessing",),
}
_MAX_PARTS = 6


def check_tokenizer_file(path: str | os.PathLike[str], size: int) -> None:
    """Refuse a tokenizer that this package would not have made, before the `tokenizers` library reads it.

    Args:
        path (`str | PathLike`): `output_tokenizer.json`.
        size (`int`): tokens that the adapter's configuration names.

    Raises:
        AdapterError: it is no JSON, has parts of other kinds, patterns that this package does not write, or token ids
            that are not 0 to `size - 1`.
    """
    values = read_config_file(path)
    for name, kinds in _KINDS.items():
        parts = list(_parts(values.get(name)))
        strange = [part.get("type") for part in parts if part.get("type") not in kinds]
        if strange or len(parts) > _MAX_PARTS:
            raise _refused(path, f"a {name} of type {strange[0]!r}" if strange else f"{len(parts)} parts of a {name}")
        for part in parts:
            _check_pattern(path, name, part)
    for name in ("truncation", "padding"):
        if values.get(name) is not None:
            raise _refused(path, f"a setting of {name}")
    _check_ids(path, values, size)


def _parts(value: Any) -> Iterator[Mapping[str, Any]]:
    """A component, or those of a sequence of them."""
    if value is None:
        return
    part = value if isinstance(value, dict) else {"type": value}
    yield part
    for name in ("normalizers", "pretokenizers", "decoders", "processors"):
        for inner in part.get(name) or ():
            yield from _parts(inner)


def _check_pattern(path: str | os.PathLike[str], name: str, part: Mapping[str, Any]) -> None:
    pattern = part.get("pattern")
    if pattern is not None:
        text = next(iter(pattern.values()), None) if isinstance(pattern, dict) else pattern
        if text not in OUTPUT_PATTERNS:
            raise _refused(path, f"a {name} with the pattern {str(text)[:40]!r}")
    content = part.get("content")
    if content is not None and len(str(content)) > _MAX_CONTENT:
        raise _refused(path, f"a {name} that puts in {str(content)[:40]!r}")


def _check_ids(path: str | os.PathLike[str], values: Mapping[str, Any], size: int) -> None:
    model, added = values.get("model"), values.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or not isinstance(added, list):
        raise _refused(path, "no vocabulary")
    further = {token.get("id") for token in added if isinstance(token, dict)}
    ids = {*vocabulary.values(), *further}
    if not all(type(one) is int for one in ids) or ids != set(range(size)):
        raise AdapterError(
            f"{path} has {len(ids)} token ids, which are not 0 to {size - 1}, as its config.json names them",
            hint="the files come from different runs; save the adapter again",
        )


def _refused(path: str | os.PathLike[str], what: str) -> AdapterError:
    return AdapterError(
        f"{path} has {what}, which this package does not write",
        hint="an output tokenizer is made by processors.build_output_tokenizer",
    )
