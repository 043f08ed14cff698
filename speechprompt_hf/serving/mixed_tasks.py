"""Labels of recordings for many tasks at once: units made once a file, rows of mixed tasks in common batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch

from ..core.audio_io import check_waveform, load_waveform
from ..core.devices import usable_device
from ..core.errors import AdapterError, ConfigurationError, SpeechPromptError, UnitError
from ..data.collators import UnitCollator
from ..modeling.modeling_for_audio_classification import SpeechPromptForAudioClassification

__all__ = ["SpeechPromptServer", "TaskPrediction"]

_Units = list[int]


@dataclass(frozen=True)
class TaskPrediction:
    """What one file was taken for in one task.

    Attributes:
        file (`str`): as it was given.
        task (`str`): as it was given.
        label (`str | None`): the most probable class; `None` where there is an error.
        probability (`float | None`): of that class.
        error (`str | None`): why there is no label.
    """

    file: str
    task: str
    label: str | None = None
    probability: float | None = None
    error: str | None = None


class SpeechPromptServer:
    """Classifies recordings by the adapters of one model.

    Args:
        model (`SpeechPromptForAudioClassification`): with a processor; the names of its adapters are the tasks. It is
            put into evaluation mode.
        max_batch_size (`int`, defaults to 32): rows of a forward pass, and recordings whose units are made together.

    Raises:
        AdapterError: the model has no processor.
        ConfigurationError: `max_batch_size` is no whole number from 1.

    Example:
        ```python
        server = SpeechPromptServer.from_adapters({"words": "adapters/words", "intents": "adapters/intents"})
        for answer in server.predict([("a.wav", "words"), ("a.wav", "intents"), ("b.wav", "words")]):
            print(answer.file, answer.task, answer.label or answer.error)
        ```
    """

    def __init__(self, model: SpeechPromptForAudioClassification, *, max_batch_size: int = 32) -> None:
        _check_batch_size(max_batch_size)
        processor = model.processor
        if processor is None:
            raise AdapterError(
                "the model has no processor that makes units of recordings",
                hint="model.attach_processor(AutoProcessor.from_pretrained(…)), or open an adapter that was saved "
                "with its processor first",
            )
        self.model = model.eval()
        self.max_batch_size = max_batch_size
        self._processor = processor.to(model.device)
        self._collator = UnitCollator(processor.tokenizer.vocabulary, model.lm.max_utterance_tokens)

    @classmethod
    def from_adapters(
        cls,
        adapters: Mapping[str, str | os.PathLike[str]],
        *,
        device: str | torch.device | None = None,
        max_batch_size: int = 32,
        **options: Any,
    ) -> Self:
        """Open adapters of one base.

        Args:
            adapters (`Mapping[str, str | PathLike]`): task → folder or Hub id. The processor is the first one's.
            device (`str | torch.device`, *optional*): where to compute.
            max_batch_size (`int`, defaults to 32): rows of a forward pass.
            options: for `from_pretrained` of the first: `base`, `dtype`, …; `token`, `cache_dir`, `local_files_only`
                for all.

        Raises:
            ConfigurationError: `adapters` is empty or does not give a folder or Hub id for each name, `max_batch_size`
                is no whole number from 1, or there is no such device.
            AdapterError: an adapter cannot be read, is fine-tuned, or the first has no processor.
            FingerprintMismatchError: an adapter was trained on another base, or on other units.
        """
        _check_adapters(adapters)
        _check_batch_size(max_batch_size)
        place = None if device is None else usable_device(device)
        (first, folder), *others = adapters.items()
        model = SpeechPromptForAudioClassification.from_pretrained(folder, **options)
        model.rename_adapter(model.active_adapter, first)
        shared = {key: options[key] for key in ("token", "cache_dir", "local_files_only") if key in options}
        for task, other in others:
            model.load_adapter(other, task, **shared)
        return cls(model if place is None else model.to(place), max_batch_size=max_batch_size)

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks."""
        return self.model.adapter_names

    def predict(self, requests: Iterable[tuple[str | os.PathLike[str], str]]) -> list[TaskPrediction]:
        """Labels of recordings; what cannot be answered is an entry with an error and does not stop the others.

        Args:
            requests (`Iterable[tuple[str | PathLike, str]]` of length R): files and tasks in any order. A file that
                occurs several times is read, and its units are made, once.

        Returns:
            `list[TaskPrediction]` of length R: in the order of the requests.

        Raises:
            ConfigurationError: `requests` is no list of pairs of a path and a name.
        """
        rows = _checked_requests(requests)
        answers: list[TaskPrediction | None] = [None] * len(rows)
        tasks = self.tasks
        for number, (file, task) in enumerate(rows):
            if task not in tasks:
                error = f"there is no task {task!r}; known are {', '.join(map(repr, tasks))}"
                answers[number] = TaskPrediction(file, task, error=error)
        files = dict.fromkeys(file for (file, _), answer in zip(rows, answers, strict=True) if answer is None)
        input_ids = self._input_ids_of_files(list(files))
        ready: list[tuple[int, int]] = []
        for number, (file, task) in enumerate(rows):
            ids = input_ids.get(file)
            if isinstance(ids, SpeechPromptError):
                answers[number] = answers[number] or TaskPrediction(file, task, error=str(ids))
            elif ids is not None and answers[number] is None:
                ready.append((len(ids), number))
        ready.sort()
        for start in range(0, len(ready), self.max_batch_size):
            numbers = [number for _, number in ready[start : start + self.max_batch_size]]
            batch = [(*rows[number], input_ids[rows[number][0]]) for number in numbers]
            for number, answer in zip(numbers, self._classify(batch), strict=True):
                answers[number] = answer
        return [answer for answer in answers if answer is not None]

    @torch.no_grad()
    def _classify(self, batch: Sequence[tuple[str, str, Any]]) -> list[TaskPrediction]:
        tensors = self._collator([{"input_ids": ids} for _, _, ids in batch])
        output = self.model(
            **{name: tensor.to(self.model.device) for name, tensor in tensors.items()},
            adapter_names=[task for _, task, _ in batch],
        )
        probabilities = output.logits.double().softmax(-1)
        highest, best = probabilities.max(-1)
        return [
            TaskPrediction(file, task, names[index], probability)
            for (file, task, _), names, index, probability in zip(
                batch, output.class_names, best.tolist(), highest.tolist(), strict=True
            )
        ]

    def _input_ids_of_files(self, files: Sequence[str]) -> dict[str, _Units | SpeechPromptError]:
        """Token ids of every file, or why it has none."""
        found: dict[str, _Units | SpeechPromptError] = {}
        extractor = self._processor.feature_extractor
        for start in range(0, len(files), self.max_batch_size):
            waveforms = {}
            for file in files[start : start + self.max_batch_size]:
                try:
                    waveform = load_waveform(file, target_rate=extractor.sampling_rate, name=file)
                    check_waveform(waveform, name=file, min_samples=extractor.min_samples)
                    waveforms[file] = waveform
                except SpeechPromptError as error:
                    found[file] = error
            if not waveforms:
                continue
            encoded = self._processor.encode_units(list(waveforms.values()), sampling_rate=extractor.sampling_rate)
            for file, sequence in zip(waveforms, encoded, strict=True):
                ids = self._processor.tokenizer.input_ids(sequence.units)
                try:
                    self._collator([{"input_ids": ids, "item": file}])
                    found[file] = ids
                except UnitError as error:
                    found[file] = error
        return found


def _check_batch_size(max_batch_size: Any) -> None:
    if not isinstance(max_batch_size, int) or isinstance(max_batch_size, bool) or max_batch_size < 1:
        raise ConfigurationError(f"max_batch_size is {max_batch_size!r}", hint="a whole number, at least 1")


def _check_adapters(adapters: Any) -> None:
    hint = "give a folder or Hub id for each task's name, such as {'words': 'adapters/words'}"
    if not isinstance(adapters, Mapping):
        raise ConfigurationError(f"adapters is {_short(adapters)}, no mapping", hint=hint)
    if not adapters:
        raise ConfigurationError("no adapter was given", hint=hint)
    for task, folder in adapters.items():
        if not isinstance(task, str) or not task:
            raise ConfigurationError(f"the name of a task is {_short(task)}", hint=hint)
        if not isinstance(folder, str | os.PathLike):
            raise ConfigurationError(f"the adapter of task {task!r} is {_short(folder)}", hint=hint)


def _checked_requests(requests: Any) -> list[tuple[str, str]]:
    """Files and tasks, after a look at their kinds."""
    hint = "give a list of pairs of a file and a task, such as [('a.wav', 'words')]"
    if isinstance(requests, str | bytes | os.PathLike | Mapping) or not isinstance(requests, Iterable):
        raise ConfigurationError(f"requests is {_short(requests)}, no list", hint=hint)
    rows: list[tuple[str, str]] = []
    for number, request in enumerate(requests):
        # A string of two letters could be taken apart, too.
        parts = [] if isinstance(request, str | bytes) or not isinstance(request, Iterable) else list(request)
        kinds = len(parts) == 2 and isinstance(parts[0], str | os.PathLike) and isinstance(parts[1], str)
        if not kinds:
            raise ConfigurationError(f"request {number} is {_short(request)}, no pair of a file and a task", hint=hint)
        rows.append((os.fspath(parts[0]), parts[1]))
    return rows


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]} …"
