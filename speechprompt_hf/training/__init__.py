"""Training prompts, verbalizers and fine-tuned language models on `transformers.Trainer`. Loads lazily."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .experiment import Experiment, run_experiment
    from .run import TrainingResult, train
    from .sampling import LengthGroupedSampler
    from .settings import TrainingSettings
    from .trainer import PromptTrainer

_HOME = {
    "Experiment": "experiment",
    "LengthGroupedSampler": "sampling",
    "PromptTrainer": "trainer",
    "TrainingResult": "run",
    "TrainingSettings": "settings",
    "run_experiment": "experiment",
    "train": "run",
}

__all__ = [
    "Experiment",
    "LengthGroupedSampler",
    "PromptTrainer",
    "TrainingResult",
    "TrainingSettings",
    "run_experiment",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
