"""The loop of a pretraining: the same for every architecture, on one process or several, resumed exactly."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .checkpoints import HasState, ResumableRun, adamw
from .precision import computes_bfloat16
from .pretraining_settings import PretrainingConfig
from .processes import Processes
from .sharding import WholeState

__all__ = ["Objective", "mean_loss", "pretrain"]

Batch = Sequence[Any]
"""The lines of one update: whatever the objective makes of rows."""


class Objective(ABC):
    """What a model reads, and what it is to say."""

    @abstractmethod
    def epoch(self, rows: Sequence[np.ndarray], generator: np.random.Generator) -> list[list[np.ndarray]]:
        """The batches of an epoch, each a list of lines, each the indices of the rows in it."""

    @abstractmethod
    def examples(self, lines: Sequence[Sequence[np.ndarray]], generator: np.random.Generator | None) -> Batch:
        """Lines of rows with the noise of an update.

        Args:
            lines (`Sequence[Sequence[np.ndarray]]`): the rows of each line.
            generator (`np.random.Generator`, *optional*): of the noise in training; without it the noise is that of
                the validation, the same every time.
        """

    @abstractmethod
    def num_targets(self, examples: Batch) -> int:
        """Tokens that are predicted in these lines."""

    @abstractmethod
    def collate(self, examples: Batch) -> dict[str, Tensor]:
        """Arguments of the model's forward, int64 on the CPU; `labels` are -100 where nothing is predicted."""


def pretrain(
    model: Any,
    objective: Objective,
    rows: Sequence[np.ndarray],
    held_out: Sequence[np.ndarray],
    output: Path,
    config: PretrainingConfig,
    identity: Mapping[str, str | None],
    processes: Processes,
    *,
    show_progress: bool,
    on_report: Callable[[dict[str, float]], None] | None,
) -> Any:
    """Trains a model; goes on from the checkpoint in `output` if there is one.

    Each update is one batch of the whole corpus, shared out among the processes line by line, so that the number of
    processes changes rounding and dropout alone.

    Args:
        model (`PreTrainedModel`): on the processes' device, the same one in all of them; it is trained in place.
        objective ([`Objective`]): rows to inputs and targets.
        rows (`Sequence[np.ndarray]`): of the training part.
        held_out (`Sequence[np.ndarray]`): of the validation part, may be empty.
        output (`Path`): receives `checkpoint.pt` and `log.jsonl`.
        config ([`PretrainingConfig`]): the settings.
        identity (`Mapping`): name of each part of the data → digest.
        processes ([`Processes`]): who trains together.
        show_progress (`bool`): a bar with the rate and the loss in nats a token.
        on_report (`Callable`, *optional*): receives what is written to the log.

    Returns:
        `PreTrainedModel`: on the CPU, in evaluation mode: `model`, or if that was sharded, a whole one in its place.

    Raises:
        ConfigurationError: the checkpoint is of other settings or data.
    """
    run = _Run(model, objective, config, output, identity, processes, on_report)
    run.train(rows, held_out, show_progress=show_progress)
    return run.finished_model()


class _Run:
    def __init__(
        self,
        model: Any,
        objective: Objective,
        config: PretrainingConfig,
        output: Path,
        identity: Mapping[str, str | None],
        processes: Processes,
        on_report: Callable[[dict[str, float]], None] | None,
    ) -> None:
        self.model, self.objective, self.config, self.processes = model, objective, config, processes
        self.bf16 = config.bf16 and computes_bfloat16(model.device)
        self.wrapped = processes.wrap(model)
        self.optimizer = adamw(model, config.learning_rate, config.weight_decay)
        self.parts = {"model": WholeState(model), "optimizer": WholeState(self.optimizer)}
        states: dict[str, HasState] = {**self.parts}
        self.state = ResumableRun(output, config, identity, states, counted="tokens", on_report=on_report)
        self.next_epoch = 0, 0  # its number, and the step at which it begins

    def train(self, rows: Sequence[np.ndarray], held_out: Sequence[np.ndarray], *, show_progress: bool) -> None:
        from tqdm.auto import tqdm

        config, state, is_main = self.config, self.state, self.processes.is_main
        epoch, batches, position = -1, list[list[np.ndarray]](), 0
        started = time.perf_counter() - state.seconds
        hidden = not (show_progress and is_main)
        with tqdm(total=config.num_steps, initial=state.step, desc="pretraining", disable=hidden) as bar:
            while state.step < config.num_steps:
                if not batches:
                    epoch, batches, position = self._find_epoch(rows)
                loss = self.train_step([[rows[index] for index in line] for line in batches[position]])
                position += 1
                state.step += 1
                if position == len(batches):
                    batches = []
                smoothed = state.smooth(loss, 0.95)
                state.seconds = time.perf_counter() - started
                bar.update()
                bar.set_postfix(loss=f"{smoothed:.3f}", epoch=epoch, refresh=False)
                last = state.step == config.num_steps
                if is_main and (last or state.step % 50 == 0):
                    state.report({"loss": smoothed, "epoch": epoch})
                if held_out and (last or state.step % config.validate_every == 0):
                    validation_loss = mean_loss(self.model, self.objective, held_out, self.processes)
                    if is_main:
                        state.report({"validation_loss": validation_loss})
                if last or state.step % config.checkpoint_every == 0:
                    self._save()
        self.processes.wait()

    def _save(self) -> None:
        if self.processes.sharding is not None:
            for part in self.parts.values():
                part.collect(keep=self.processes.is_main)
        if self.processes.is_main:
            self.state.save()

    def finished_model(self) -> Any:
        """The trained model in one piece, on the CPU, in evaluation mode."""
        model = self.model
        if self.processes.sharding is not None:
            whole = WholeState(model)
            whole.collect(keep=True)
            model = type(model)(model.config)
            model.load_state_dict(whole.state_dict())
            model.tie_weights()
        return model.cpu().eval()

    def _find_epoch(self, rows: Sequence[np.ndarray]) -> tuple[int, list[list[np.ndarray]], int]:
        """Epoch, its batches and the place in them of the next update: functions of the seed and the step alone."""
        while True:
            epoch, first_step = self.next_epoch
            batches = self.objective.epoch(rows, np.random.default_rng((self.config.seed, epoch)))
            # After a stop the epochs before are planned once more, to see how many updates they had.
            self.next_epoch = epoch + 1, first_step + len(batches)
            if self.state.step < self.next_epoch[1]:
                return epoch, batches, self.state.step - first_step

    def train_step(self, lines: Sequence[Sequence[np.ndarray]]) -> float:
        """One update on these lines; returns the loss in nats a token, over all processes."""
        state, processes = self.state, self.processes
        torch.manual_seed(self.config.seed * 1_000_003 + state.step)  # dropout, the same after a resume
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(state.step)
        self.model.train()
        examples = self.objective.examples(lines, np.random.default_rng((self.config.seed, 1, state.step)))
        num_targets = self.objective.num_targets(examples)
        own = processes.own(examples)
        batch = _on(processes.device, self.objective.collate(own or examples[:1]))
        if not own:  # more processes than lines: take part in the exchange, and say nothing
            batch["labels"] = torch.full_like(batch["labels"], -100)
        with torch.autocast(processes.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            # Gradients are averaged over processes: each takes its share of the sum over all targets that often.
            loss = self.wrapped(**batch, use_cache=False, num_items_in_batch=num_targets / processes.size).loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        state.count += num_targets
        return float(processes.sum(loss.detach()) / processes.size)


def _on(device: torch.device, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}


@torch.no_grad()
def mean_loss(
    model: Any, objective: Objective, rows: Sequence[np.ndarray], processes: Processes | None = None
) -> float:
    """Mean loss in nats a predicted token, with the validation's noise.

    Args:
        model (`PreTrainedModel`): left in the mode that it was in.
        objective ([`Objective`]): of the model.
        rows (`Sequence[np.ndarray]`): at least one.
        processes ([`Processes`], *optional*): they share the lines, and all call this at the same time; by default
            this process reads them all.

    Returns:
        `float`: the same in every process.
    """
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    for batch in objective.epoch(rows, np.random.default_rng(0)):
        examples = objective.examples([[rows[index] for index in line] for line in batch], None)
        count += objective.num_targets(examples)
        own = examples if processes is None else processes.own(examples)
        # Without lines a process still takes part in gathering a sharded model.
        inputs = _on(model.device, objective.collate(own or examples[:1]))
        total += float(model(**inputs, use_cache=False).loss) * objective.num_targets(own)
    model.train(was_training)
    mean = total / count
    return (
        mean
        if processes is None or processes.size == 1
        else float(processes.sum(torch.tensor(mean, device=processes.device)))
    )
