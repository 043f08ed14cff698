"""Adapters of any kind, opened side by side: those of one base share it in memory, those of one encoder share that."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..core.devices import usable_device
from ..core.errors import AdapterError, ConfigurationError
from ..generation.vocoders import open_vocoder
from ..modeling.adapter_reading import read_config
from ..modeling.auto import SpeechPromptModel

__all__ = ["EXAMPLES_FOLDER", "DemoTask", "examples_of", "named_adapters", "open_tasks"]

EXAMPLES_FOLDER = "examples"
"""Folder of an adapter whose recordings a page offers to try."""

_EXAMPLE_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
_MAX_EXAMPLES = 6


@dataclass(frozen=True)
class DemoTask:
    """One adapter of a page.

    Attributes:
        name (`str`): what the page calls it.
        model (`SpeechPromptPreTrainedModel`): of labels, of texts, or of speech with its vocoder; in evaluation mode,
            with a processor. Models of one base share it, so none of them is to be trained.
        examples (`tuple[Path, ...]`): recordings to try, of the adapter's folder `examples`.
    """

    name: str
    model: Any
    examples: tuple[Path, ...] = ()

    @property
    def says_text(self) -> bool:
        """Whether the answer is a text."""
        return bool(self.model.says_sequences) and not self.says_speech

    @property
    def says_speech(self) -> bool:
        """Whether the answer is speech."""
        return bool(getattr(self.model.config, "generates_speech", False))


def named_adapters(folders: Iterable[str], named: Iterable[str] = ()) -> dict[str, str]:
    """Names of adapters, in the order in which they were given.

    Args:
        folders (`Iterable[str]`): folders or Hub ids; each is called by the last part of its path.
        named (`Iterable[str]`): `NAME=DIR`.

    Returns:
        `dict[str, str]`: name → folder or Hub id.

    Raises:
        ConfigurationError: there is none, a name occurs twice, or a text has not the form `NAME=DIR`.

    Example:
        `named_adapters(["runs/words"], ["moods=runs/emodb"])` is `{"words": "runs/words", "moods": "runs/emodb"}`.
    """
    pairs = [(_name_of(folder), folder) for folder in folders]
    for text in named:
        name, sign, folder = text.partition("=")
        if not sign or not name.strip() or not folder.strip():
            raise ConfigurationError(
                f"{text!r} is no name with a folder", hint="a name and a folder (--name NAME=DIR)"
            )
        pairs.append((name.strip(), folder.strip()))
    if not pairs:
        raise ConfigurationError("no adapter was given", hint="give the folder that speechprompt train wrote")
    found: dict[str, str] = {}
    for name, folder in pairs:
        if name in found:
            raise ConfigurationError(
                f"{found[name]} and {folder} would both be called {name!r}",
                hint=f"give one another name (--name OTHER={folder})",
            )
        found[name] = folder
    return found


def _name_of(folder: str) -> str:
    name = Path(folder).name
    # Of "." and "..", the folder's own name.
    return name if name.strip(".") else Path(folder).resolve().name or folder


def open_tasks(
    adapters: Mapping[str, str | os.PathLike[str]],
    *,
    device: str | torch.device | None = None,
    vocoder: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None = None,
    **hub: Any,
) -> dict[str, DemoTask]:
    """Open adapters, labels, texts and speech mixed; each base, encoder of units and vocoder is read once.

    Args:
        adapters (`Mapping[str, str | PathLike]`): name → folder or Hub id.
        device (`str | torch.device`, *optional*): where to compute; a GPU where there is one.
        vocoder (`str | PathLike | Mapping`, *optional*): folder or Hub id of what makes the units of adapters sound
            that answer with speech; or name → vocoder. By default the one that an adapter names, if it is on this
            machine: nothing is downloaded that was not asked for.
        hub: `token`, `cache_dir`, `local_files_only` for adapters on the Hub.

    Returns:
        `dict[str, DemoTask]`: in the same order.

    Raises:
        AdapterError: an adapter or a vocoder cannot be read, or an adapter has no processor.
        ConfigurationError: there is none, there is no such device, an adapter that answers with speech has no vocoder,
            or its vocoder says other units; or a vocoder was given, and no adapter answers with speech.
        FingerprintMismatchError: a base or an encoder is not the one that an adapter was trained on.
    """
    if not adapters:
        raise ConfigurationError("no adapter was given", hint="give a folder or Hub id for each task's name")
    place = usable_device(device)
    bases: dict[str | None, Any] = {}
    encoders: dict[str, Any] = {}
    vocoders: dict[tuple[str, str | None], Any] = {}
    tasks = {}
    for name, given in adapters.items():
        folder = os.fspath(given)
        config = read_config(folder, **hub)
        identity = (config.base_fingerprint or {}).get("weights")
        # Before anything large is read: without one there is no answer.
        sound = _vocoder_of(name, config, vocoder, vocoders, hub) if config.generates_speech else None
        # A fine-tuned adapter is a base of its own.
        shares = identity is not None and config.method != "finetune"
        model = SpeechPromptModel.from_pretrained(folder, base=bases.get(identity) if shares else None, **hub)
        model = model.to(place).eval().requires_grad_(False)
        if shares:
            bases.setdefault(identity, model.lm)
        _share_encoder(folder, model, encoders)
        if sound is not None:
            model.attach_vocoder(sound.to(place))
        tasks[name] = DemoTask(name, model, examples_of(Path(folder)))
    if vocoder is not None and not any(task.says_speech for task in tasks.values()):
        raise ConfigurationError(
            "a vocoder was given, and none of the adapters answers with speech",
            hint="leave the vocoder out (--vocoder)",
        )
    return tasks


def _vocoder_of(
    name: str,
    config: Any,
    given: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None,
    known: dict[tuple[str, str | None], Any],
    hub: dict[str, Any],
) -> Any:
    """The vocoder of one adapter; those of one name are one object."""
    wanted = given.get(name) if isinstance(given, Mapping) else given
    named, revision = config.vocoder_name_or_path, config.vocoder_revision
    key = (os.fspath(wanted if wanted is not None else named or ""), revision)
    if key not in known:
        where = {option: hub[option] for option in ("token", "cache_dir", "local_files_only") if option in hub}
        known[key] = open_vocoder(wanted, named, revision, of=f"the adapter {name!r}", **where)
    return known[key]


def _share_encoder(folder: str, model: Any, encoders: dict[str, Any]) -> None:
    processor = model.processor
    if processor is None:
        raise AdapterError(
            f"{folder} has no processor that makes units of recordings",
            hint="save the adapter again on a base that has a processor",
        )
    encoder = processor.unit_encoder
    processor.unit_encoder = encoders.setdefault(encoder.fingerprint["digest"], encoder)
    processor.to(model.device)


def examples_of(folder: Path) -> tuple[Path, ...]:
    """The first six recordings in an adapter's folder `examples`, by name; none where it has no such folder.

    Args:
        folder (`Path`): of the adapter.
    """
    found = folder / EXAMPLES_FOLDER
    if not found.is_dir():
        return ()
    files = sorted(path for path in found.iterdir() if path.suffix.lower() in _EXAMPLE_SUFFIXES and path.is_file())
    return tuple(files[:_MAX_EXAMPLES])
