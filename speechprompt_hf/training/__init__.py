"""Training prompts, verbalizers and fine-tuned language models on `transformers.Trainer`. Loads lazily."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .experiment import Experiment, run_experiment
    from .run import TrainingResult, train
    from .sampling import LengthGroupedSampler
    from .sequence_experiment import SequenceExperiment, run_sequence_experiment
    from .sequence_run import SequenceTrainingResult, train_sequences
    from .sequence_settings import SequenceTrainingSettings
    from .sequence_trainer import SequenceTrainer
    from .settings import TrainingSettings
    from .speech_experiment import run_speech_experiment
    from .trainer import PromptTrainer

_HOME = {
    "train_sequences": "sequence_run",
    "run_sequence_experiment": "sequence_experiment",
    "SequenceTrainingSettings": "sequence_settings",
    "SequenceTrainingResult": "sequence_run",
    "SequenceTrainer": "sequence_trainer",
    "SequenceExperiment": "sequence_experiment",
    "Experiment": "experiment",
    "LengthGroupedSampler": "sampling",
    "PromptTrainer": "trainer",
    "TrainingResult": "run",
    "TrainingSettings": "settings",
    "run_experiment": "experiment",
    "run_speech_experiment": "speech_experiment",
    "train": "run",
}

__all__ = [
    "Experiment",
    "LengthGroupedSampler",
    "PromptTrainer",
    "SequenceExperiment",
    "SequenceTrainer",
    "SequenceTrainingResult",
    "SequenceTrainingSettings",
    "TrainingResult",
    "TrainingSettings",
    "run_experiment",
    "run_sequence_experiment",
    "run_speech_experiment",
    "train",
    "train_sequences",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
