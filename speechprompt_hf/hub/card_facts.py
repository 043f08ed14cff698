"""What is known of an adapter: its configuration, its report, and what may be said of them in public."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.files import read_json
from ..core.locations import is_hub_id, looks_like_a_path
from .card_text import last_name

__all__ = ["AdapterFacts", "adapter_facts"]


@dataclass(frozen=True)
class AdapterFacts:
    """All that a card is made from.

    Attributes:
        name (`str`): repository id, or the folder's name.
        opened_as (`str`): what the snippets open.
        config (`dict`): the adapter's config.json.
        report (`dict`): report.json; empty where there is none.
        base_id (`str | None`): public name of the base.
        base_revision (`str | None`): its commit.
        dataset (`str | None`): Hub id of the data.
        license, language (`str | list[str] | None`): of the adapter.
        has_processor, has_picture (`bool`): whether the files are there.
        rate_hz (`int`): of the processor.
        processor_source (`str | None`): where the processor's encoder lies, as it says itself.
        processor_revision (`str | None`): its commit.
        private (`tuple[str, ...]`): folders that no text may name.
    """

    name: str
    opened_as: str
    config: Mapping[str, Any]
    report: Mapping[str, Any] = field(default_factory=dict)
    base_id: str | None = None
    base_revision: str | None = None
    dataset: str | None = None
    license: Any = None
    language: Any = None
    has_processor: bool = False
    has_picture: bool = False
    rate_hz: int = 16000
    processor_source: str | None = None
    processor_revision: str | None = None
    private: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """`"prompt"`, `"finetune"` or `"probe"`."""
        return str(self.config.get("method", "prompt"))

    @property
    def says_sequences(self) -> bool:
        """Whether it says texts, and is no classifier."""
        return self.config.get("output_vocab_size") is not None

    @property
    def answers_with_speech(self) -> bool:
        """Whether what it says are units of speech."""
        return self.config.get("target_units") is not None

    @property
    def vocoder(self) -> str | None:
        """The public name of the vocoder of its units, where it names one."""
        name = self.config.get("vocoder_name_or_path")
        return name if isinstance(name, str) and is_hub_id(name) and not Path(name).exists() else None

    @property
    def labels(self) -> list[str]:
        """Names of the classes, by class index."""
        names = self.config.get("id2label") or {}
        return [str(names[key]) for key in sorted(names, key=int)]

    @property
    def data_name(self) -> str:
        """The data set's Hub id, or the last part of its path."""
        source = str(self.report.get("data", {}).get("source", "unknown"))
        return self.dataset or ("given rows" if source == "given rows" else last_name(source))


def adapter_facts(
    folder: Path, config: Mapping[str, Any], report: Mapping[str, Any], arguments: Mapping[str, Any]
) -> AdapterFacts:
    """Read what a card is made from.

    Args:
        folder (`Path`): of the adapter.
        config (`Mapping`): its config.json.
        report (`Mapping`): its report.json, or an empty one.
        arguments (`Mapping`): `repo_id`, `base_id`, `base_revision`, `license`, `dataset`, `language`; any may be
            missing.
    """
    base = config.get("base_model_name_or_path")
    base_id = arguments.get("base_id") or (
        base if base and is_hub_id(base, with_organisation=False) and not Path(base).exists() else None
    )
    pinned = config.get("base_revision") if base_id == base else None
    processor_path = folder / "processor_config.json"
    processor = read_json(processor_path) if processor_path.is_file() else {}
    encoder = processor.get("unit_encoder") or {}
    slug = re.sub(r"[^\w.-]+", "-", folder.resolve().name, flags=re.ASCII).strip("-.") or "adapter"
    source = str(report.get("data", {}).get("source", ""))
    private = [text for text in (base, encoder.get("source"), source) if text and looks_like_a_path(text)]
    home = str(Path.home())
    return AdapterFacts(
        name=arguments.get("repo_id") or slug,
        opened_as=arguments.get("repo_id") or f"YOUR-NAME/{slug}",
        config=config,
        report=report,
        base_id=base_id,
        base_revision=arguments.get("base_revision") or pinned,
        dataset=arguments.get("dataset"),
        license=arguments.get("license"),
        language=arguments.get("language"),
        has_processor=bool(processor),
        has_picture=(folder / "confusion.png").is_file(),
        rate_hz=int(encoder.get("sampling_rate") or 16000),
        processor_source=encoder.get("source"),
        processor_revision=encoder.get("revision"),
        private=(*private, *(str(Path(text).parent) for text in private if len(Path(text).parts) > 2), home),
    )
