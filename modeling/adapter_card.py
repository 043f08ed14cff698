"""The short README.md of a model that is saved without a run, in sections that a full card replaces later."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from ..core.files import write_text
from ..core.locations import looks_like_a_path
from .configuration_speechprompt import SpeechPromptConfig

__all__ = ["card_record", "content_digest", "escape_markdown", "mark_section", "value_digest", "write_card"]

_TRAINER_COMMENT = "<!-- This model card has been generated automatically according to the information the Trainer"
_LONGEST = 80
_PIPELINES = {
    "classification": "audio-classification",
    "sequences": "automatic-speech-recognition",
    "speech": "audio-to-audio",
}

_SUMMARY = """# Speech prompt adapter

Made with speechprompt-hf: {what}, {trained} trained parameters. It was saved without a report, so nothing is known
about data and accuracy.

{says}"""

_USE = """## How to use it

```python
from speechprompt_hf import {name}

model = {name}.from_pretrained("PATH OR ID OF THIS REPOSITORY")
```"""


def content_digest(text: str) -> str:
    """Identity of a generated text, 16 hexadecimal digits; line endings and blanks at line ends do not count."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "replace")).hexdigest()[:16]


def value_digest(value: Any) -> str:
    """Identity of a metadata value as YAML or JSON reads it, 16 hexadecimal digits."""
    try:
        return content_digest(json.dumps(value, sort_keys=True, default=str))
    except TypeError:  # keys of several types cannot be sorted
        return content_digest(repr(value))


def mark_section(name: str, text: str, line_break: str = "\n") -> str:
    """A generated section between its markers.

    The opening marker holds the digest of the text: a text with another digest was edited, and is kept.

    Args:
        name (`str`): lower-case letters and hyphens.
        text (`str`): Markdown, lines ended by line feeds.
        line_break (`str`, *optional*): of the result.
    """
    marked = f"<!-- speechprompt:{name} {content_digest(text)} -->\n{text.strip()}\n<!-- /speechprompt:{name} -->"
    return marked.replace("\n", line_break)


def card_record(record: dict[str, Any]) -> str:
    """The comment that remembers what was generated, on one line."""
    # ">" could end the comment.
    return f"<!-- speechprompt:record {json.dumps(record).replace('>', chr(92) + 'u003e')} -->"


def escape_markdown(text: object, longest: int = _LONGEST) -> str:
    """Text that Markdown and HTML show as it is: one line, no markup, at most `longest` characters.

    Args:
        text (`object`): any value; control characters and changes of writing direction are dropped.
        longest (`int`, defaults to 80): what is longer is cut and ends with "…".
    """
    plain = str(text).encode("utf-8", "replace").decode("utf-8")
    plain = re.sub(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]", "", plain)
    plain = " ".join(plain.split())
    if len(plain) > longest:
        plain = plain[: longest - 1] + "…"
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "&#124;")
    plain = re.sub(r"([\\`*\[\]~$!])|(?<![^\W_])_|_(?![^\W_])", lambda found: "\\" + found[0], plain)
    plain = re.sub(r"^(\d*)([#+=-]+|[.)])(?=\s|$)", r"\1\\\2", plain)
    # Bare addresses and mentions would become links.
    return plain.replace("://", "&#58;//").replace("www.", "www&#46;").replace("@", "&#64;")


def write_card(folder: Path, config: SpeechPromptConfig, num_trained_parameters: int) -> None:
    """Write a short `README.md` with metadata for the Hub, where there is none yet.

    A README that exists is left alone, unless it is the one that `transformers.Trainer` has just generated, which
    knows nothing of prompts.

    Args:
        folder (`Path`): the adapter folder.
        config (`SpeechPromptConfig`): the adapter's configuration.
        num_trained_parameters (`int`): numbers that were trained.
    """
    path = folder / "README.md"
    if path.is_file():
        present = path.read_bytes().decode("utf-8", "replace")
        if present.strip() and _TRAINER_COMMENT not in present:
            return
    metadata: dict[str, Any] = {
        "library_name": "peft" if config.method == "prompt" else "transformers",
        "pipeline_tag": _PIPELINES[config.purpose],
        "tags": ["speechprompt", "unit language model", config.method],
    }
    base = config.base_model_name_or_path
    # A folder of this machine is no public name.
    if base is not None and not looks_like_a_path(base) and not Path(base).exists():
        metadata["base_model"] = base
    kind = config.method
    if kind == "prompt":
        kind = f"{config.prompt_type} prompt of {config.num_virtual_tokens} columns"
        kind += "" if config.prompt_layers == "all" else f" (layers: {config.prompt_layers})"
    verbalizer = f"{config.verbalizer} verbalizer"
    if config.verbalizer_hidden_size:
        verbalizer += f" of two layers ({config.verbalizer_hidden_size} detectors)"
    summary = _SUMMARY.format(
        what=f"{kind}, {verbalizer}, readout {config.readout}",
        trained=f"{num_trained_parameters:,}",
        says=_what_it_says(config),
    )
    record = {
        "metadata": {name: value_digest(value) for name, value in metadata.items()},
        "sections": ["summary", "use"],
        "arguments": {},
    }
    parts = [
        mark_section("summary", summary),
        mark_section("use", _USE.format(name=_class_name(config))),
        card_record(record),
    ]
    write_text(path, f"---\n{ModelCardData(**metadata).to_yaml()}\n---\n" + "\n\n".join(parts) + "\n")


def _class_name(config: SpeechPromptConfig) -> str:
    return {
        "classification": "SpeechPromptForAudioClassification",
        "sequences": "SpeechPromptForSequenceGeneration",
        "speech": "SpeechPromptForSpeechGeneration",
    }[config.purpose]


def _what_it_says(config: SpeechPromptConfig) -> str:
    if config.generates_speech:
        units = (config.target_units or {}).get("num_units")
        return f"It answers with speech ({config.speech_task}), in {units:,} units, which a vocoder makes sound."
    if config.generates_sequences:
        return f"It says texts, of an output vocabulary of {config.output_vocab_size:,} tokens."
    shown = [escape_markdown(name) for name in config.class_names[:100]]
    more = f" and {config.num_classes - 100} more" if config.num_classes > 100 else ""
    return f"Labels: {', '.join(shown)}{more}"
