"""What happens between epochs: the progress bar and the record of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

__all__ = ["CLASSIFIER_METRICS", "TrainingProgress", "epoch_history"]

CLASSIFIER_METRICS = ("accuracy", "macro_f1")
"""What is measured of classifiers in every epoch."""


def epoch_history(state: TrainerState, metrics: Sequence[str] = CLASSIFIER_METRICS) -> list[dict[str, float]]:
    """One entry an evaluation: epoch, step, training loss, validation loss and metrics; a resumed run has all of them.

    Args:
        state (`TrainerState`): of a trainer.
        metrics (`Sequence[str]`, *optional*): names of the metrics; those of classifiers by default.
    """
    history: list[dict[str, float]] = []
    loss = None
    for log in state.log_history:
        loss = log.get("loss", loss)
        if not any(name.startswith("eval_") for name in log):
            continue
        entry = {"epoch": float(log.get("epoch", 0.0)), "step": float(log.get("step", 0))}
        if loss is not None:
            entry["train_loss"] = float(loss)
        for name in ("loss", *metrics):
            if f"eval_{name}" in log:
                entry[f"validation_{name}"] = float(log[f"eval_{name}"])
        history.append(entry)
    return history


class TrainingProgress(TrainerCallback):
    """One bar on stderr: updates, rate, time left, and the best validation metric so far.

    Trainer's own bar and its printed dictionaries go to stdout, which belongs to results.

    Args:
        metric (`str`, defaults to `"accuracy"`): what is shown.
        lower_is_better (`bool`, defaults to `False`): whether it is an error rate.
    """

    def __init__(self, metric: str = "accuracy", *, lower_is_better: bool = False) -> None:
        self.metric = metric
        self.lower_is_better = lower_is_better
        self._progress: Any = None
        self._task: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draw the bar on the first process."""
        if not state.is_world_process_zero:
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[best]}"),
            console=Console(stderr=True),
        )
        self._first = state.global_step
        self._task = self._progress.add_task("", total=state.max_steps, completed=self._first, rate="", best="")
        self._progress.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar."""
        if self._progress is not None:
            seconds = self._progress.tasks[0].elapsed or 0.0
            rate = f", {(state.global_step - self._first) / seconds:.1f}/s" if seconds else ""
            self._progress.update(self._task, completed=state.global_step, rate=rate)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the validation metric."""
        name = f"eval_{self.metric}"
        if self._progress is not None and metrics and name in metrics:
            now = metrics[name]
            better = min if self.lower_is_better else max
            best = now if state.best_metric is None else better(now, state.best_metric)
            kind = ", lower is better" if self.lower_is_better else ""
            self._progress.update(self._task, best=f"validation {self.metric} {now:.3f} (best {best:.3f}{kind})")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
