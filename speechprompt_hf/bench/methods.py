"""Methods as declarations, and running one of them on a fold."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset, concatenate_datasets

from ..core.errors import ConfigurationError
from ..data.loading import Splits
from ..evaluation.baselines import (
    BaselineResult,
    encoder_mean_baseline,
    hidden_state_baseline,
    majority_baseline,
    tfidf_baseline,
)
from ..evaluation.prediction import class_probabilities
from ..modeling.base_loading import load_base
from ..modeling.configuration_speechprompt import SpeechPromptConfig
from ..tasks import Task
from ..training.run import train
from ..training.settings import TrainingSettings
from .bases import Base
from .declaration import check_name, read_record

__all__ = ["MODEL_OPTIONS", "READY_METHODS", "FoldRows", "Method", "Outcome", "run_method"]

MODEL_OPTIONS = (
    "prompt_init_std",
    "prompt_parametrization",
    "separator_init",
    "label_feedback",
    "feedback_temperature",
    "normalize_pooled",
)
"""Fields of `SpeechPromptConfig` that a method may set beside the training settings."""

TRAINED_KINDS = ("prompt", "probe", "finetune")


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        name (`str`): how tables and `--only` call it.
        kind (`str`): `"prompt"`, `"finetune"`, `"probe"`: trained by `training.train`; `"majority"`, `"tfidf"`,
            `"hidden-states"`, `"encoder-mean"`: the baselines of `evaluation`.
        settings (`Mapping[str, Any]`): fields of `TrainingSettings`, over those of the suite.
        model (`Mapping[str, Any]`): of `MODEL_OPTIONS`.
        base (`str`, *optional*): name of the base; the data set's by default.
        untrained (`bool`, defaults to `False`): a base of the same shape with random weights.
        baseline (`str`, *optional*): name of the method that the difference is taken from; the suite's by default.

    Raises:
        ConfigurationError: a setting that does not exist or does not belong to the kind.
    """

    name: str
    kind: Literal["prompt", "finetune", "probe", "majority", "tfidf", "hidden-states", "encoder-mean"]
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    base: str | None = None
    untrained: bool = False
    baseline: str | None = None

    def __post_init__(self) -> None:
        check_name("a method", self.name, "/*?[]\\|")
        if not self.is_trained and (self.settings or self.model):
            raise ConfigurationError(f"the method {self.name!r} has settings", hint=f"{self.kind} takes none")
        if self.untrained and not (self.is_trained or self.kind == "hidden-states"):
            raise ConfigurationError(f"the method {self.name!r} is untrained", hint=f"{self.kind} reads no base")
        read_record(TrainingSettings, self.settings, f"settings of {self.name!r}")
        unknown = sorted(set(self.model) - set(MODEL_OPTIONS))
        if unknown:
            raise ConfigurationError(
                f"model of {self.name!r} has the unknown key {unknown[0]!r}",
                hint=f"known are {', '.join(MODEL_OPTIONS)}",
            )
        try:
            SpeechPromptConfig(**dict(self.model))
        except TypeError as error:
            raise ConfigurationError(f"model of {self.name!r} cannot be used: {error}") from error

    @property
    def is_trained(self) -> bool:
        """Whether the trainer trains it, from a seed."""
        return self.kind in TRAINED_KINDS

    @property
    def reads_language_model(self) -> bool:
        """Whether it needs the language model of a base."""
        return self.is_trained or self.kind == "hidden-states"

    def training_settings(self, shared: Mapping[str, Any], min_updates: int, num_rows: int) -> TrainingSettings:
        """The settings of a run.

        Args:
            shared (`Mapping[str, Any]`): of the suite; the method's own win.
            min_updates (`int`): so many updates at least; few rows get more epochs.
            num_rows (`int`): rows that train.
        """
        settings = TrainingSettings(**{**shared, **self.settings})
        batch = settings.batch_size * settings.accumulation
        epochs = math.ceil(min_updates / math.ceil(num_rows / batch))
        return replace(settings, num_epochs=max(settings.num_epochs, epochs))


def _ready() -> dict[str, Method]:
    methods = [
        Method("majority", "majority"),
        Method("tfidf", "tfidf"),
        Method("encoder-mean", "encoder-mean"),
        Method("hidden-states", "hidden-states"),
        Method("probe", "probe"),
        Method("finetune", "finetune"),
        Method("untrained-deep-learnable", "prompt", untrained=True),
    ]
    for prompt in ("input", "deep"):
        for verbalizer in ("random", "frequency", "learnable"):
            # What a fixed verbalizer reads is the paper's: the unit after the separator.
            readout = "pooled" if verbalizer == "learnable" else "separator"
            options = {"prompt": prompt, "verbalizer": verbalizer, "readout": readout}
            methods.append(Method(f"{prompt}-{verbalizer}", "prompt", options))
    return {method.name: method for method in methods}


READY_METHODS: Mapping[str, Method] = _ready()
"""What suites may call by name."""


@dataclass(frozen=True)
class FoldRows:
    """The rows of a fold.

    Attributes:
        task (`Task`): the classes of the data set.
        train (`Dataset`): rows with `units`, `label`, `speaker`, `item`.
        validation (`Dataset | None`): likewise; `None` where there are none.
        test (`Dataset`): likewise.
        recordings (`tuple[Dataset, Dataset | None, Dataset] | None`): the same rows with `audio`, where it is known.
    """

    task: Task
    train: Dataset
    validation: Dataset | None
    test: Dataset
    recordings: tuple[Dataset, Dataset | None, Dataset] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a method answered.

    Attributes:
        predicted (`tuple[str, ...]` of length R): class names of the test rows.
        validation_predicted (`tuple[str, ...] | None`): of the validation rows.
        scores (`tuple[float, ...] | None`): of two classes, the probability of the second for each test row.
        trained_parameters (`int`): numbers that were fitted.
        seconds (`float`): of fitting; of baselines prediction is included.
        num_epochs (`float | None`): passes over the training rows.
        settings (`dict[str, Any]`): of the training; empty for baselines.
    """

    predicted: tuple[str, ...]
    validation_predicted: tuple[str, ...] | None
    scores: tuple[float, ...] | None
    trained_parameters: int
    seconds: float
    num_epochs: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def run_method(
    method: Method,
    rows: FoldRows,
    base: Base | None,
    settings: TrainingSettings,
    *,
    seed: int,
    choose_epoch: bool,
    scratch: Path,
    device: str | None = None,
) -> Outcome:
    """Fit a method on the training rows and classify the test rows.

    Args:
        method (`Method`): what to run.
        rows (`FoldRows`): of the fold.
        base (`Base`, *optional*): for methods that read a language model or an encoder.
        settings (`TrainingSettings`): of trained methods.
        seed (`int`): of trained methods.
        choose_epoch (`bool`): keep the epoch that is best on the validation rows; the last one otherwise.
        scratch (`Path`): a folder for this run alone; it is removed.
        device (`str`, *optional*): `"cpu"` keeps a GPU from being used.

    Raises:
        ConfigurationError: the epoch is to be chosen and there are no validation rows.
        SpeechPromptError: whatever training refuses.
    """
    if not method.is_trained:
        return _run_baseline(method, rows, base, seed)
    assert base is not None
    if choose_epoch and rows.validation is None:
        raise ConfigurationError("no validation rows to choose the epoch on", hint="selection: last")
    options: dict[str, Any] = {"use_cpu": True} if device == "cpu" else {}
    if not choose_epoch:
        options |= {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    # Without a choice `train` only wants to see some rows there.
    validation = rows.validation if choose_epoch and rows.validation is not None else rows.train.select([0])
    try:
        result = train(
            rows.task,
            Splits(rows.train, validation, rows.test),
            _language_model(method, base, seed),
            settings,
            output_dir=scratch,
            seed=seed,
            method=method.kind,  # type: ignore[arg-type]
            processor=base.processor,
            progress=False,
            model_options=dict(method.model),
            **options,
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    parts = [rows.test] if rows.validation is None else [rows.test, rows.validation]
    probabilities = [class_probabilities(result.model, part, result.vocabulary) for part in parts]
    names = [tuple(rows.task.labels[index] for index in part.argmax(-1)) for part in probabilities]
    return Outcome(
        predicted=names[0],
        validation_predicted=names[1] if len(names) > 1 else None,
        scores=tuple(probabilities[0][:, 1].tolist()) if rows.task.num_labels == 2 else None,
        trained_parameters=result.trained_parameters,
        seconds=result.seconds,
        num_epochs=result.num_epochs,
        settings=asdict(settings),
    )


def _language_model(method: Method, base: Base, seed: int) -> Any:
    """Read anew for each run: fine-tuning and separators write into it."""
    if not method.untrained:
        return base.source
    lm = load_base(base.source)
    torch.manual_seed(seed)
    return type(lm)(lm.config)


def _run_baseline(method: Method, rows: FoldRows, base: Base | None, seed: int) -> Outcome:
    # Test and validation in one call, so that the classifier is fitted once.
    asked = rows.test if rows.validation is None else concatenate_datasets([rows.test, rows.validation])
    result: BaselineResult
    if method.kind == "majority":
        result = majority_baseline(rows.train, asked)
    elif method.kind == "tfidf":
        result = tfidf_baseline(rows.train, asked)
    elif method.kind == "hidden-states":
        assert base is not None
        lm = load_base(_language_model(method, base, seed))
        result = hidden_state_baseline(rows.train, asked, model=lm, vocabulary=base.vocabulary)
    else:
        assert base is not None and rows.recordings is not None
        train_rows, validation, test = rows.recordings
        asked = test if validation is None else concatenate_datasets([test, validation])
        result = encoder_mean_baseline(train_rows, asked, processor=base.processor)
    number = len(rows.test)
    return Outcome(
        predicted=result.predicted[:number],
        validation_predicted=None if rows.validation is None else result.predicted[number:],
        scores=_toward_second_label(result.scores, rows, number),
        trained_parameters=result.num_parameters,
        seconds=result.seconds,
    )


def _toward_second_label(scores: tuple[float, ...] | None, rows: FoldRows, number: int) -> tuple[float, ...] | None:
    """Scores of the test rows for the task's second label; a baseline gives them for the second one by name."""
    if scores is None or rows.task.num_labels != 2:
        return None
    sign = 1.0 if list(rows.task.labels) == sorted(rows.task.labels) else -1.0
    return tuple(sign * score for score in scores[:number])
