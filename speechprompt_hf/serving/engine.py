"""One base in memory, adapters of any kind over it, and batches of recordings for them."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from ..core.audio_io import Waveform
from ..core.devices import usable_device
from ..core.errors import AdapterError, ConfigurationError
from ..modeling.adapter_reading import read_config
from ..modeling.auto import SpeechPromptModel
from ..modeling.speech_purpose import refuse_speech
from .adapter_groups import AdapterGroup, Classifiers, SharedBase, TextSayers, UnitRow
from .partition import partition_by_length

__all__ = ["Question", "ServedModel", "ServingEngine", "check_name", "group_of", "name_of"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# What a pass of the embedded default's encoder costs on a CPU beside its rows, in seconds of sound.
_OVERHEAD_SECONDS = 0.7
_NAME_HINT = "letters, digits, '.', '_' and '-', 64 at most, a letter or digit first"


@dataclass(frozen=True)
class ServedModel:
    """An adapter that is served.

    Attributes:
        name (`str`): in its URL.
        task (`str`): of the Hub: `"audio-classification"` or `"automatic-speech-recognition"`.
        labels (`tuple[str, ...] | None`): class names, of classifiers.
    """

    name: str
    task: str
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Question:
    """A recording for an adapter.

    Attributes:
        name (`str`): of the adapter.
        waveform (`NDArray[float32]` of shape `(S,)`): finite samples at the processor's rate, at least one frame.
        num_beams (`int`, defaults to 1): of texts.
    """

    name: str
    waveform: Waveform
    num_beams: int = 1


def check_name(name: str) -> str:
    """A name that can stand in a URL.

    Args:
        name (`str`): of an adapter.

    Raises:
        ConfigurationError: it cannot.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(f"an adapter cannot be called {name!r:.80}", hint=_NAME_HINT)
    return name


def name_of(adapter: str | os.PathLike[str]) -> str:
    """How an adapter is called that got no name: by its folder, or by its Hub id without the owner.

    Args:
        adapter (`str | PathLike`): folder or Hub id.

    Raises:
        ConfigurationError: that is no name.
    """
    text = os.fspath(adapter)
    name = Path(text).resolve().name if os.path.isdir(text) else text.rstrip("/").rpartition("/")[2]
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"the adapter {text} cannot be called {name!r}", hint=f"give it a name (--name NAME={text})"
        )
    return name


def group_of(model: ServedModel, question: Question) -> Hashable:
    """Which questions may share a batch.

    Args:
        model (`ServedModel`): that the question is for.
        question (`Question`): about a recording.
    """
    if model.task == Classifiers.task:
        return (model.task,)
    return (model.task, model.name, question.num_beams)


class ServingEngine:
    """Answers batches of recordings by adapters over one base, which is in memory once.

    It is used by one thread at a time: the batcher's.

    Args:
        device (`str | torch.device`, *optional*): where to compute; the CPU by default.

    Raises:
        ConfigurationError: there is no such device.
    """

    def __init__(self, device: str | torch.device | None = None) -> None:
        self._device = None if device is None else usable_device(device)
        self._base: SharedBase | None = None
        self._groups: dict[str, AdapterGroup] = {group.task: group for group in (Classifiers(), TextSayers())}
        self._models: dict[str, ServedModel] = {}

    @classmethod
    def from_adapters(
        cls, adapters: Mapping[str, str | os.PathLike[str]], *, device: str | torch.device | None = None
    ) -> Self:
        """An engine with adapters.

        Args:
            adapters (`Mapping[str, str | PathLike]`): name → folder or Hub id; base and processor are the first one's.
            device (`str | torch.device`, *optional*): where to compute.

        Raises:
            ConfigurationError: there is none, or a name cannot be one.
            AdapterError: one cannot be read.
            FingerprintMismatchError: one was trained on another base or other units.
        """
        if not adapters:
            raise ConfigurationError("no adapter was given", hint="give at least one folder or Hub id")
        engine = cls(device)
        for name, adapter in adapters.items():
            engine.load(name, adapter)
        return engine

    @property
    def models(self) -> dict[str, ServedModel]:
        """Name → what is served under it."""
        return dict(self._models)

    @property
    def feature_extractor(self) -> Any:
        """What recordings are decoded for.

        Raises:
            ConfigurationError: no adapter was loaded yet.
        """
        return self._shared.processor.feature_extractor

    @property
    def is_alive(self) -> bool:
        """Always true: it ends with whoever owns it."""
        return True

    @property
    def _shared(self) -> SharedBase:
        if self._base is None:
            raise ConfigurationError("no adapter was loaded yet", hint="load one")
        return self._base

    def load(self, name: str, adapter: str | os.PathLike[str]) -> ServedModel:
        """Open an adapter over the base; the first one's base is the base.

        Args:
            name (`str`): in its URL.
            adapter (`str | PathLike`): folder or Hub id.

        Returns:
            `ServedModel`: what is served now.

        Raises:
            ConfigurationError: the name cannot be one.
            AdapterError: the name is taken, or the adapter cannot be read, answers with speech, or has no processor
                and is the first.
            FingerprintMismatchError: it was trained on another base or other units.
        """
        check_name(name)
        if name in self._models:
            raise AdapterError(f"there is an adapter {name!r} already", hint="take another name")
        folder, opened = os.fspath(adapter), None
        config = read_config(folder)
        refuse_speech(config, "the service answers with labels and texts", folder)
        group = self._groups[TextSayers.task if config.generates_sequences else Classifiers.task]
        base = self._base
        if base is None:
            opened = SpeechPromptModel.from_pretrained(folder)
            if opened.processor is None:
                raise AdapterError(
                    f"{folder} has no processor that makes units of recordings",
                    hint="save the adapter again on a base that has a processor",
                )
            opened = opened if self._device is None else opened.to(self._device)
            base = SharedBase(opened.lm, opened.processor.to(opened.device))
        group.add(name, folder, base, opened)
        self._base = base
        labels = group.labels(name)
        self._models[name] = ServedModel(name, group.task, None if labels is None else tuple(labels))
        return self._models[name]

    def close(self) -> None:
        """Nothing to end."""

    def unload(self, name: str) -> None:
        """Forget an adapter; the base stays in memory.

        Args:
            name (`str`): of the adapter.

        Raises:
            AdapterError: there is none.
        """
        if name not in self._models:
            raise AdapterError(f"there is no adapter {name!r}", hint="models names those that there are")
        self._groups[self._models.pop(name).task].remove(name)

    def group_of(self, question: Question) -> Hashable:
        """Which questions may share a batch: of all classifiers, or of one adapter that says texts.

        Args:
            question (`Question`): about a recording.
        """
        return group_of(self._models[question.name], question)

    @torch.inference_mode()
    def answer(self, group: Hashable, questions: Sequence[Question]) -> list[Any]:
        """Answers of one batch.

        Args:
            group (`Hashable`): of `group_of`, the same for all.
            questions (`Sequence[Question]`): at least one.

        Returns:
            `list[ClassScores | str | UnitError]`: one a question; a text of adapters that say texts.
        """
        assert isinstance(group, tuple)
        rows = [
            UnitRow(question.name, ids, question.num_beams)
            for question, ids in zip(questions, self._input_ids(questions), strict=True)
        ]
        return self._groups[group[0]].answer(rows)

    def _input_ids(self, questions: Sequence[Question]) -> list[list[int]]:
        processor = self._shared.processor
        rate = processor.feature_extractor.sampling_rate
        overhead = _OVERHEAD_SECONDS if processor.unit_encoder.device.type == "cpu" else float("inf")
        ids: list[list[int]] = [[] for _ in questions]
        for part in partition_by_length([len(question.waveform) / rate for question in questions], overhead):
            sequences = processor.encode_units([questions[row].waveform for row in part], sampling_rate=rate)
            for row, sequence in zip(part, sequences, strict=True):
                ids[row] = processor.tokenizer.input_ids(sequence.units)
        return ids
