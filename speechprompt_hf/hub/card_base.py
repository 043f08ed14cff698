"""What the model card of a base says: units, sizes, licences, and how to train an adapter on it."""

from __future__ import annotations

import json
import shlex
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from ..core.errors import ConfigurationError
from ..core.files import read_json
from ..core.locations import is_hub_id
from ..modeling.adapter_card import escape_markdown
from .card_text import code, hub_link, public_name, table

__all__ = ["BASE_SECTIONS", "base_metadata", "base_sections"]

BASE_SECTIONS = ("base-summary", "base-units", "base-use", "base-licence")
"""Names of the sections, in order."""

_USE = """## Train an adapter on it

```bash
speechprompt train --dataset YOUR_FOLDER --base {shell} --output my-adapter
speechprompt predict my-adapter RECORDING.wav
```

`YOUR_FOLDER` has one sub-folder of recordings per label. In Python, with the package speechprompt-hf:

```python
from speechprompt_hf.training import run_experiment

report = run_experiment("YOUR_FOLDER", "my-adapter", base={quoted}).report
print(report["accuracy"], report["accuracy_interval"], report["baselines"]["tfidf"]["accuracy"])
```"""


def base_metadata(license: str | None, language: str | list[str] | None) -> dict[str, Any]:
    """The metadata of a base's card, without what is unknown."""
    values = {
        "library_name": "transformers",
        "tags": ["speechprompt", "speech", "unit language model", "GSLM"],
        "license": license,
        "language": language,
    }
    return {name: value for name, value in values.items() if value is not None}


def base_sections(folder: Path, repo_id: str, *, license: Any, heading: int = 1) -> dict[str, str]:
    """The text of each section, by name and in order.

    Args:
        folder (`Path`): of the base.
        repo_id (`str`): its id on the Hub.
        license (`str`, *optional*): of the base.
        heading (`int`, defaults to 1): level of the card's title; 2 where the README has a title already.

    Raises:
        ConfigurationError: a file of the base is damaged.
    """
    config = read_json(folder / "config.json")
    processor = read_json(folder / "processor_config.json") if (folder / "processor_config.json").is_file() else {}
    encoder = processor.get("unit_encoder") or {}
    units = config.get("fingerprint") or encoder.get("fingerprint") or {}
    title = f"{'#' * heading} {escape_markdown(repo_id)}"
    summary = (
        "A language model over speech units, with what makes the units. It stays frozen; speechprompt-hf trains small "
        "prompts on it for classification, after [SpeechPrompt](https://arxiv.org/abs/2303.00733)."
    )
    texts = {
        "base-summary": f"{title}\n\n{summary}\n\n{table(('part', 'files', 'parameters', 'size'), _parts(folder))}",
        "base-units": _units(config, encoder, units),
        "base-use": _USE.format(shell=shlex.quote(repo_id), quoted=json.dumps(repo_id)),
        "base-licence": _licence(license, units),
    }
    return {name: text for name, text in texts.items() if text}


def _units(config: Mapping[str, Any], encoder: Mapping[str, Any], units: Mapping[str, Any]) -> str:
    shape = (
        f"Language model: {escape_markdown(config.get('num_hidden_layers', '?'))} layers, width "
        f"{escape_markdown(config.get('hidden_size', '?'))}, {escape_markdown(config.get('vocab_size', '?'))} tokens."
    )
    if not units:
        return f"## Units\n\n{shape} Nothing says which encoder made the units that it was trained on."
    name = str(units.get("encoder_id"))
    text = f"## Units\n\n{shape} Units: layer {escape_markdown(units.get('layer'))} of {_encoder(name, units)}"
    if encoder:
        rate, hop = int(encoder.get("sampling_rate", 16000)), int(encoder.get("hop_samples", 320))
        text += (
            f", {escape_markdown(encoder.get('num_units', '?'))} k-means clusters, {rate / hop:g} frames a second, "
        )
        text += f"recordings at {rate} Hz"
    text += f", normalisation {escape_markdown(units.get('normalization'))}."
    rows = [(name, units[name]) for name in ("digest", "encoder_sha256", "centroids_sha256") if units.get(name)]
    marked = [(name, code(value)) for name, value in rows]
    return text + ("\n\n" + table(("fingerprint", "SHA-256"), marked, raw=(1,)) if rows else "")


def _encoder(name: str, units: Mapping[str, Any]) -> str:
    public = public_name(name)
    if (
        public == name
        and name.count("/") == 1
        and is_hub_id(name, with_organisation=False)
        and not (units.get("encoder_id") or "").startswith("speechprompt-hf/")
    ):
        return hub_link(name, units.get("revision"))
    return escape_markdown(public)


def _licence(license: Any, units: Mapping[str, Any]) -> str:
    given = ", ".join(license) if isinstance(license, list) else license
    text = f"This base: {escape_markdown(given)}." if given else "None was named."
    name = units.get("encoder_id")
    if name:
        text += f" Units come from {_encoder(str(name), units)}, whose licence and attribution hold for what is "
        text += "derived from it."
    return f"## Licence and attribution\n\n{text}"


def _parts(folder: Path) -> list[tuple[str, ...]]:
    """Part, files, parameters and size of what the folder holds."""
    kinds = (
        ("language model", "model*.safetensors"),
        ("speech encoder", "encoder/*.safetensors"),
        ("centroids", "quantizer.safetensors"),
        ("centroids of prosody", "prosody_quantizer.safetensors"),
    )
    rows: list[tuple[str, ...]] = []
    for kind, pattern in kinds:
        files = sorted(folder.glob(pattern))
        if files:
            size = sum(path.stat().st_size for path in files)
            names = ", ".join(path.relative_to(folder).as_posix() for path in files[:3])
            names += f" and {len(files) - 3} more" if len(files) > 3 else ""
            rows.append((kind, names, f"{sum(map(_num_parameters, files)):,}", f"{size / 1e6:.1f} MB"))
    return rows


def _num_parameters(path: Path) -> int:
    """Numbers in a safetensors file, from its header.

    Raises:
        ConfigurationError: the file is damaged.
    """
    try:
        with open(path, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > path.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(length))
        return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{path} is no whole safetensors file: {error}", hint="it is damaged: copy or save it again"
        ) from error
