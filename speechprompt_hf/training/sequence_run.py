"""`train_sequences`: a task, its units and texts, and a base to a saved adapter."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import EarlyStoppingCallback, EvalPrediction, PreTrainedTokenizerFast, TrainerCallback
from transformers.trainer_utils import set_seed

from ..core.embedded import DEFAULT_BASE
from ..core.errors import ConfigurationError, LabelError
from ..core.vocabulary import UnitVocabulary
from ..data.lengths import max_utterance_tokens
from ..data.loading import Splits
from ..data.sequence_rows import SequenceCollator, output_ids, said_units, task_tokenizer
from ..evaluation.saying import decoded
from ..evaluation.sequence_metrics import sequence_values
from ..modeling.base_loading import known_vocabulary, load_base
from ..modeling.modeling_for_sequence_generation import SpeechPromptForSequenceGeneration
from ..tasks import SequenceTask
from .callbacks import TrainingProgress
from .run_parts import (
    CHECKPOINT_FOLDER,
    RunOutcome,
    check_lengths,
    outcome_of,
    run_record,
    train_and_save,
    training_arguments,
)
from .sequence_settings import SequenceMethod, SequenceTrainingSettings
from .sequence_trainer import SequenceTrainer

__all__ = ["SequenceTrainingResult", "longest_answer", "room_for_utterances", "train_sequences"]

# Answers may be longer than those of training by so much.
_LONGER = 1.5


@dataclass(frozen=True, kw_only=True)
class SequenceTrainingResult(RunOutcome):
    """A trained model and how it came about.

    Attributes:
        model (`SpeechPromptForSequenceGeneration`): of the best epoch, in evaluation mode.
        method (`str`): `"prompt"` or `"finetune"`.
    """

    model: SpeechPromptForSequenceGeneration
    method: SequenceMethod


def longest_answer(task: SequenceTask, tokenizer: PreTrainedTokenizerFast, splits: Splits) -> int:
    """The most tokens of an answer: half more than the longest of training, or the longest of validation.

    Args:
        task (`SequenceTask`): what is said; its `max_tokens` are the most.
        tokenizer (`PreTrainedTokenizerFast`): of the output vocabulary.
        splits (`Splits`): with normalised texts in `label`.
    """
    taught, known = (max(map(len, output_ids(tokenizer, rows["label"]))) for rows in (splits.train, splits.validation))
    return min(task.max_tokens, max(math.ceil(_LONGER * taught), known))


def room_for_utterances(lm: Any, num_output_tokens: int) -> int:
    """`max_utterance_tokens`, where that leaves room for any utterance.

    Args:
        lm (`UnitLanguageModel`): the base.
        num_output_tokens (`int`): the most tokens of an answer.

    Raises:
        ConfigurationError: not one unit fits.
    """
    room = max_utterance_tokens(lm, num_output_tokens)
    # The start, a unit, the separator.
    if room < 3:
        raise ConfigurationError(
            f"answers of up to {num_output_tokens} tokens leave no room for an utterance on a base of "
            f"{lm.max_utterance_tokens} positions",
            hint="lower the task's max_tokens (--max-tokens), let it say subwords or words, or use a base with more "
            "positions",
        )
    return room


def train_sequences(
    task: SequenceTask,
    splits: Splits,
    base: Any = DEFAULT_BASE,
    settings: SequenceTrainingSettings | None = None,
    *,
    output_dir: str | os.PathLike[str],
    seed: int = 0,
    method: SequenceMethod = "prompt",
    processor: Any = None,
    tokenizer: PreTrainedTokenizerFast | None = None,
    max_output_tokens: int | None = None,
    resume: bool = False,
    progress: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
    model_class: type[SpeechPromptForSequenceGeneration] = SpeechPromptForSequenceGeneration,
    model_options: Mapping[str, Any] | None = None,
    **trainer_arguments: Any,
) -> SequenceTrainingResult:
    """Train a model that says sequences on a base and save it.

    Only prompt, separator, verbalizer and the vectors of said tokens are trained (with `method="finetune"` the
    language model too). The validation rows are answered after every epoch, and the epoch with the best metric of the
    task is kept.

    Args:
        task (`SequenceTask`): what is said, and how it is measured.
        splits (`Splits`): rows with units and normalised texts, from `load_text_splits` with `text_of=task.text_of`.
        base (`str | PathLike | UnitLanguageModel`, defaults to the embedded base): the language model.
        settings (`SequenceTrainingSettings`, *optional*): the defaults of all tasks.
        output_dir (`str | PathLike`): receives the adapter; checkpoints while training runs.
        seed (`int`, defaults to 0): of initialisation, order and dropout.
        method (`str`, defaults to `"prompt"`): `"prompt"` or `"finetune"`.
        processor (`SpeechUnitProcessor`, *optional*): made the units; attached to the model and saved with it.
        tokenizer (`PreTrainedTokenizerFast`, *optional*): of the output vocabulary; made from the training texts by
            default.
        max_output_tokens (`int`, *optional*): the most tokens of an answer; `longest_answer` by default.
        resume (`bool`, defaults to `False`): go on from the last complete checkpoint in `output_dir`, exactly; from
            the start where there is none.
        progress (`bool`, defaults to `True`): a bar on stderr.
        callbacks (`Sequence[TrainerCallback]`): further callbacks of the trainer.
        model_class (`type`, defaults to `SpeechPromptForSequenceGeneration`): that class, or one that adds to it.
        model_options (`Mapping`, *optional*): further arguments of its `from_base`; they win over the settings.
        trainer_arguments: further arguments of `TrainingArguments`.

    Returns:
        `SequenceTrainingResult`.

    Raises:
        ConfigurationError: the splits hold recordings, settings contradict each other, answers leave no room for
            utterances, or a run is resumed with other settings or rows.
        UnitError: a unit that the base does not know, or an utterance that no answer fits behind.
        LabelError: no text has anything in it, or one has more tokens than the task allows.
    """
    settings = settings or SequenceTrainingSettings()
    if splits.kind != "units":
        raise ConfigurationError("the splits hold recordings", hint="make their units first: data.extract_units")
    set_seed(seed)
    lm = load_base(base)
    vocabulary = known_vocabulary(processor, base) or UnitVocabulary.from_num_units(lm.num_units)
    tokenizer = tokenizer or task_tokenizer(task, list(splits.train["label"]))
    longest = max_output_tokens or longest_answer(task, tokenizer, splits)
    check_lengths(splits, room_for_utterances(lm, longest))
    parts = {"train": splits.train, "validation": _by_length(splits.validation)}
    tables = {name: said_units(rows, tokenizer, vocabulary) for name, rows in parts.items()}
    _check_texts(task, parts, tables)
    model = model_class.from_base(
        lm,
        tokenizer,
        vocabulary=vocabulary,
        processor=processor,
        seed=seed,
        **{
            "max_output_tokens": longest,
            "training_units": splits.train["units"],
            "training_outputs": tables["train"]["labels"],
            **settings.model_options(method),
            **(model_options or {}),
        },
    )
    arguments = training_arguments(
        Path(output_dir) / CHECKPOINT_FOLDER,
        settings.trainer_options(method),
        seed=seed,
        metric=task.metric,
        greater_is_better=not task.lower_is_better,
        gradient_checkpointing=settings.gradient_checkpointing,
        num_rows=len(tables["train"]),
        further=trainer_arguments,
    )
    early = [EarlyStoppingCallback(settings.patience)] if arguments.load_best_model_at_end else []
    bar = [TrainingProgress(task.metric, lower_is_better=task.lower_is_better)] if progress else []
    trainer = SequenceTrainer(
        model=model,
        args=arguments,
        train_dataset=tables["train"],
        eval_dataset=tables["validation"],
        data_collator=SequenceCollator(vocabulary, lm.max_utterance_tokens),
        compute_metrics=_Measured(task, tuple(parts["validation"]["label"]), tokenizer),
        callbacks=[*early, *bar, *callbacks],
        num_beams=settings.num_beams,
    )
    run = run_record(settings, model_options, model, tables, method=method, seed=seed, task=task.as_record())
    seconds = train_and_save(trainer, run, output_dir=Path(output_dir), resume=resume, processor=processor)
    outcome = outcome_of(trainer, settings, seconds, task.metrics)
    return SequenceTrainingResult(model=model, method=method, vocabulary=vocabulary, **outcome)


@dataclass(frozen=True)
class _Measured:
    """Metrics for `Trainer`, from the tokens `(R, K)` that were said of rows whose texts are known."""

    task: SequenceTask
    references: tuple[str, ...]
    tokenizer: PreTrainedTokenizerFast

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        rows = np.asarray(prediction.predictions).tolist()
        said = [self.task.normalize_said(decoded(self.tokenizer, row)) for row in rows]
        return sequence_values(self.task.metrics, self.references, said)


def _by_length(rows: Dataset) -> Dataset:
    """The same rows, short ones first, so that batches have little padding."""
    return rows.select(np.argsort([len(units) for units in rows["units"]], kind="stable"))


def _check_texts(task: SequenceTask, parts: Mapping[str, Dataset], tables: Mapping[str, Dataset]) -> None:
    for name, table in tables.items():
        for item, tokens in zip(parts[name]["item"], table["labels"], strict=True):
            if len(tokens) > task.max_tokens:
                raise LabelError(
                    f"the text of {item} ({name}) has {len(tokens)} tokens, more than {task.max_tokens}",
                    hint="leave it out, or raise the task's max_tokens (--max-tokens)",
                )
