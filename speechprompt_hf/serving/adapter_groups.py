"""Adapters of one kind over one base in memory: how they are opened, and how a batch of their rows is answered.

A kind is a class here with `task`, `names`, `add`, `remove`, `labels` and `answer`: labels, texts. Another kind of
answer is another class, named in `engine.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.errors import AdapterError, UnitError
from ..data.collators import UnitCollator
from ..data.lengths import TOO_LONG_HINT, max_utterance_tokens, why_too_long
from ..evaluation.saying import say
from ..modeling.modeling_for_audio_classification import SpeechPromptForAudioClassification
from ..modeling.modeling_for_sequence_generation import SpeechPromptForSequenceGeneration
from .partition import partition_by_length

__all__ = ["AdapterGroup", "ClassScores", "Classifiers", "SharedBase", "TextSayers", "UnitRow"]

# What a pass of the embedded default costs on a CPU beside its rows, in tokens; larger bases cost more a token.
_OVERHEAD_TOKENS = 32.0


@dataclass(frozen=True)
class SharedBase:
    """What all adapters share in memory.

    Attributes:
        lm (`UnitLanguageModel`): the language model.
        processor (`SpeechUnitProcessor`): makes units of recordings.
    """

    lm: Any
    processor: Any


@dataclass(frozen=True)
class UnitRow:
    """A recording as units, and the adapter that it is for.

    Attributes:
        name (`str`): of the adapter.
        input_ids (`list[int]`): `</s>`, units, `<s>`.
        num_beams (`int`): of texts.
    """

    name: str
    input_ids: list[int]
    num_beams: int = 1


@dataclass(frozen=True)
class ClassScores:
    """What a classifier says of a recording.

    Attributes:
        labels (`tuple[str, ...]` of length M): class names.
        logits (`NDArray[float64]` of shape `(M,)`): their scores.
    """

    labels: tuple[str, ...]
    logits: NDArray[np.float64]


class AdapterGroup(Protocol):
    """Adapters of one kind."""

    task: ClassVar[str]

    def names(self) -> list[str]:
        """Names of the adapters."""
        ...

    def add(self, name: str, adapter: str, base: SharedBase, opened: Any = None) -> None:
        """Open an adapter over the base, or take one that was opened with it."""
        ...

    def remove(self, name: str) -> None:
        """Forget an adapter."""
        ...

    def labels(self, name: str) -> list[str] | None:
        """Class names of an adapter that has some."""
        ...

    def answer(self, rows: Sequence[UnitRow]) -> list[Any]:
        """An answer a row, or a `UnitError` in its place."""
        ...


class Classifiers:
    """Adapters that say labels; rows of all of them share a batch."""

    task: ClassVar[str] = "audio-classification"

    def __init__(self) -> None:
        self._model: SpeechPromptForAudioClassification | None = None
        self._collator: UnitCollator | None = None

    def names(self) -> list[str]:
        """Names of the adapters."""
        return [] if self._model is None else self._model.adapter_names

    def add(self, name: str, adapter: str, base: SharedBase, opened: Any = None) -> None:
        """Open an adapter over the base.

        Args:
            name (`str`): how it is called.
            adapter (`str`): folder or Hub id.
            base (`SharedBase`): in memory.
            opened (`SpeechPromptForAudioClassification`, *optional*): the adapter itself, if it is open.

        Raises:
            AdapterError: it cannot be read, or is fine-tuned.
            FingerprintMismatchError: it was trained on another base or other units.
        """
        if self._model is not None:
            self._model.load_adapter(adapter, name)
            return
        model = opened or SpeechPromptForAudioClassification.from_pretrained(adapter, base=base.lm)
        model.attach_processor(base.processor)
        model.rename_adapter(model.active_adapter, name)
        self._model = model.eval()
        self._collator = UnitCollator(base.processor.tokenizer.vocabulary, base.lm.max_utterance_tokens)

    def remove(self, name: str) -> None:
        """Forget an adapter; the base stays.

        Args:
            name (`str`): of the adapter.
        """
        assert self._model is not None
        others = [other for other in self._model.adapter_names if other != name]
        if not others:
            self._model = None
            return
        if self._model.active_adapter == name:
            self._model.set_adapter(others[0])
        self._model.delete_adapter(name)

    def labels(self, name: str) -> list[str]:
        """Class names of an adapter.

        Args:
            name (`str`): of the adapter.
        """
        assert self._model is not None
        return list(self._model.adapter_config(name).class_names)

    def answer(self, rows: Sequence[UnitRow]) -> list[Any]:
        """Scores of mixed tasks in one forward pass, or a few where lengths differ much.

        Args:
            rows (`Sequence[UnitRow]`): at least one.

        Returns:
            `list[ClassScores | UnitError]`: one a row.
        """
        assert self._model is not None and self._collator is not None
        model, collator = self._model, self._collator
        answers, fitting = _checked(collator.max_positions, rows)
        overhead = _OVERHEAD_TOKENS if model.device.type == "cpu" else float("inf")
        for part in partition_by_length([len(rows[number].input_ids) for number in fitting], overhead):
            chosen = [fitting[index] for index in part]
            tensors = collator([{"input_ids": rows[number].input_ids} for number in chosen])
            output = model(
                **{key: tensor.to(model.device) for key, tensor in tensors.items()},
                adapter_names=[rows[number].name for number in chosen],
            )
            scores = output.logits.double().cpu().numpy()
            for number, labels, logits in zip(chosen, output.class_names, scores, strict=True):
                answers[number] = ClassScores(labels, logits[: len(labels)])
        return answers


class TextSayers:
    """Adapters that say texts: each a model of its own over the shared base, which is not copied."""

    task: ClassVar[str] = "automatic-speech-recognition"

    def __init__(self) -> None:
        self._models: dict[str, SpeechPromptForSequenceGeneration] = {}

    def names(self) -> list[str]:
        """Names of the adapters."""
        return list(self._models)

    def add(self, name: str, adapter: str, base: SharedBase, opened: Any = None) -> None:
        """Open an adapter over the base; arguments and errors as in `Classifiers.add`."""
        model = opened or SpeechPromptForSequenceGeneration.from_pretrained(adapter, base=base.lm)
        if opened is None and model.config.method == "finetune":
            raise AdapterError(f"{adapter} holds a language model of its own", hint="serve it by itself")
        model.attach_processor(base.processor)
        self._models[name] = model.eval()

    def remove(self, name: str) -> None:
        """Forget an adapter; the base stays.

        Args:
            name (`str`): of the adapter.
        """
        del self._models[name]

    def labels(self, name: str) -> None:
        """Nothing: these adapters say texts."""

    def answer(self, rows: Sequence[UnitRow]) -> list[Any]:
        """Texts of one adapter, said in one batch.

        Args:
            rows (`Sequence[UnitRow]`): at least one; all of the same adapter and with as many beams.

        Returns:
            `list[str | UnitError]`: one a row.
        """
        model = self._models[rows[0].name]
        collator = UnitCollator(model.vocabulary, max_utterance_tokens(model.lm, model.config.max_output_tokens))
        answers, fitting = _checked(collator.max_positions, rows)
        if fitting:
            tensors = collator([{"input_ids": rows[number].input_ids} for number in fitting])
            given: dict[str, Any] = {key: tensor.to(model.device) for key, tensor in tensors.items()}
            said = say(model, **given, num_beams=rows[0].num_beams)
            for number, one in zip(fitting, said, strict=True):
                answers[number] = one.text
        return answers


def _checked(max_tokens: int | None, rows: Sequence[UnitRow]) -> tuple[list[Any], list[int]]:
    """Errors of rows that the base cannot read, and the numbers of the others."""
    answers: list[Any] = [None] * len(rows)
    for number, row in enumerate(rows):
        too_long = why_too_long(len(row.input_ids) - 2, max_tokens)
        if too_long:
            answers[number] = UnitError(f"the recording has {too_long}", hint=TOO_LONG_HINT)
    return answers, [number for number, answer in enumerate(answers) if answer is None]
