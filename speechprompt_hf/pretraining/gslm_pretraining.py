"""Pretraining of a GSLM on a corpus of units."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..core.devices import usable_device
from ..core.digest import sha256_of_json
from ..core.errors import ConfigurationError
from ..core.vocabulary import SPECIAL_TOKENS, UnitVocabulary
from ..modeling.configuration_gslm import GSLMConfig
from ..modeling.modeling_gslm import GSLMForCausalLM
from .checkpoints import UNITS_IDENTITY, ResumableRun, adamw, rows_digest
from .precision import computes_bfloat16
from .rows import collate_rows, disturb, make_batches, make_rows


def _small_model() -> dict[str, Any]:
    return {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}


@dataclass(frozen=True)
class PretrainingConfig:
    """Settings of a pretraining; the defaults made the embedded backbone.

    Args:
        num_steps (`int`, *optional*, defaults to 1500): updates.
        tokens_per_step (`int`, *optional*, defaults to 6144): bound of a step's tokens, padding included.
        max_tokens (`int`, *optional*, defaults to 512): longest row; longer utterances are cut into several rows.
        break_mode (`str`, *optional*, defaults to `"utterance"`): `"utterance"` gives each utterance a row
            `</s> units </s>`; `"stream"` cuts rows of `max_tokens` out of all utterances joined by `</s>`.
        learning_rate (`float`, *optional*, defaults to 2e-3): peak, after a linear warm-up, before a cosine.
        warm_up_steps (`int`, *optional*, defaults to 100): updates of the warm-up.
        weight_decay (`float`, *optional*, defaults to 0.05): of AdamW (betas 0.9, 0.98) on matrices.
        clip_norm (`float`, *optional*, defaults to 1.0): bound of the gradient's norm.
        bf16 (`bool`, *optional*, defaults to `True`): autocast to bfloat16, on devices that compute in it.
        replaced_units (`float`, *optional*, defaults to 0.0): share of the units that are replaced by random ones
            where the model reads them; it still predicts the true ones.
        left_out_units (`float`, *optional*, defaults to 0.0): share of the units that are left out of a row, anew in
            every update.
        seed (`int`, *optional*, defaults to 0): of weights, order, dropout and disturbances.
        checkpoint_every (`int`, *optional*, defaults to 100): updates between checkpoints.
        validate_every (`int`, *optional*, defaults to 250): updates between validations.
        model (`dict`, *optional*): arguments of [`GSLMConfig`]; 4 layers of width 256 by default.

    Raises:
        ConfigurationError: a share is not in [0, 1).
    """

    num_steps: int = 1500
    tokens_per_step: int = 6144
    max_tokens: int = 512
    break_mode: Literal["utterance", "stream"] = "utterance"
    learning_rate: float = 2e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    bf16: bool = True
    replaced_units: float = 0.0
    left_out_units: float = 0.0
    seed: int = 0
    checkpoint_every: int = 100
    validate_every: int = 250
    model: dict[str, Any] = field(default_factory=_small_model)

    def __post_init__(self) -> None:
        for name in ("replaced_units", "left_out_units"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)!r}", hint="give a share of the units: at least 0, less than 1"
                )

    def rate(self, step: int) -> float:
        """Learning rate of an update."""
        if step < self.warm_up_steps:
            return self.learning_rate * (step + 1) / self.warm_up_steps
        share = (step - self.warm_up_steps) / max(1, self.num_steps - self.warm_up_steps)
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * min(1.0, share)))))


def pretrain_gslm(
    sequences: Sequence[Sequence[int]],
    output: str | Path,
    config: PretrainingConfig | None = None,
    *,
    vocabulary: UnitVocabulary,
    validation: Sequence[Sequence[int]] = (),
    fingerprint: dict[str, Any] | None = None,
    device: str | torch.device | None = None,
    show_progress: bool = True,
    on_report: Callable[[dict[str, float]], None] | None = None,
) -> GSLMForCausalLM:
    """Pretrains a GSLM; goes on from the checkpoint in `output` if there is one, as if it had not been stopped.

    Args:
        sequences (`Sequence[Sequence[int]]`): merged units of each training utterance.
        output (`str` or `Path`): receives `checkpoint.pt`, `log.jsonl` and, at the end, the model's files (float16).
        config ([`PretrainingConfig`], *optional*): the settings.
        vocabulary ([`UnitVocabulary`]): of the units.
        validation (`Sequence[Sequence[int]]`, *optional*): held-out utterances.
        fingerprint (`dict`, *optional*): identity of the units, kept in the model's configuration.
        device (`str` or `torch.device`, *optional*): where to train; a CUDA GPU if there is one, else the CPU.
        show_progress (`bool`, *optional*, defaults to `True`): a bar with the rate and the loss in nats a token.
        on_report (`Callable`, *optional*): receives what is written to `log.jsonl`.

    Returns:
        [`GSLMForCausalLM`]: in float32 on the CPU, in evaluation mode.

    Raises:
        DatasetError: the corpus is empty.
        ConfigurationError: `output` holds a checkpoint of other settings, rows, vocabulary or units, or there is no
            such device here.
    """
    config = config or PretrainingConfig()
    place = usable_device(device)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    cut = {"max_tokens": config.max_tokens, "break_mode": config.break_mode}
    rows = make_rows(sequences, vocabulary, **cut)  # type: ignore[arg-type]
    held_out = make_rows(validation, vocabulary, **cut) if len(validation) else []  # type: ignore[arg-type]
    torch.manual_seed(config.seed)
    model = GSLMForCausalLM(GSLMConfig(vocab_size=len(vocabulary), fingerprint=fingerprint, **config.model))
    nn.Module.to(model, place)
    identity = {
        "training rows": rows_digest(rows),
        "vocabulary": sha256_of_json(vocabulary.symbols),
        UNITS_IDENTITY: (fingerprint or {}).get("digest"),
    }
    run = _Run(model, config, output, identity, on_report)
    run.train(rows, held_out, show_progress=show_progress)
    model.cpu().eval()
    save_half(model, output)
    return model


def save_half(model: GSLMForCausalLM, folder: str | Path) -> None:
    """Writes the model's files in float16; the model itself stays as it is."""
    half = GSLMForCausalLM(model.config).half()
    half.load_state_dict({name: value.detach().half() for name, value in model.state_dict().items()})
    half.tie_weights()
    half.save_pretrained(folder)


class _Run:
    """The loop over updates."""

    def __init__(
        self,
        model: GSLMForCausalLM,
        config: PretrainingConfig,
        output: Path,
        identity: dict[str, str | None],
        on_report: Callable[[dict[str, float]], None] | None,
    ) -> None:
        self.model, self.config = model, config
        self.bf16 = config.bf16 and computes_bfloat16(model.device)
        self.optimizer = adamw(model, config.learning_rate, config.weight_decay)
        states: dict[str, nn.Module | torch.optim.Optimizer] = {"model": model, "optimizer": self.optimizer}
        self.state = ResumableRun(output, config, identity, states, counted="tokens", on_report=on_report)

    def train(self, rows: list[np.ndarray], held_out: list[np.ndarray], *, show_progress: bool) -> None:
        from tqdm.auto import tqdm

        config, state = self.config, self.state
        epoch, batches = -1, list[np.ndarray]()
        started, smoothed = time.perf_counter() - state.seconds, float("nan")
        with tqdm(total=config.num_steps, initial=state.step, desc="pretraining", disable=not show_progress) as bar:
            while state.step < config.num_steps:
                if not batches:
                    epoch, batches, position = self._find_epoch(rows)
                loss = self.train_step([rows[index] for index in batches[position]])
                position += 1
                state.step += 1
                if position == len(batches):
                    batches = []
                smoothed = loss if np.isnan(smoothed) else 0.95 * smoothed + 0.05 * loss
                state.seconds = time.perf_counter() - started
                bar.update()
                bar.set_postfix(loss=f"{smoothed:.3f}", epoch=epoch, refresh=False)
                last = state.step == config.num_steps
                if last or state.step % 50 == 0:
                    state.report({"loss": smoothed, "epoch": epoch})
                if held_out and (last or state.step % config.validate_every == 0):
                    state.report({"validation_loss": evaluate_loss(self.model, held_out)})
                if last or state.step % config.checkpoint_every == 0:
                    state.save()

    def _find_epoch(self, rows: list[np.ndarray]) -> tuple[int, list[np.ndarray], int]:
        """Epoch, its batches and the place in them of the next update: functions of the seed and the step alone."""
        epoch, remaining = 0, self.state.step
        while True:
            generator = np.random.default_rng((self.config.seed, epoch))
            batches = make_batches(rows, self.config.tokens_per_step, generator)
            if remaining < len(batches):
                return epoch, batches, remaining
            remaining -= len(batches)
            epoch += 1

    def train_step(self, rows: list[np.ndarray]) -> float:
        """One update on these rows; returns the loss in nats a token."""
        state = self.state
        torch.manual_seed(self.config.seed * 1_000_003 + state.step)  # dropout, the same after a resume
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(state.step)
        self.model.train()
        read, labels = self._disturbed(rows)
        batch = _on(self.model.device, collate_rows(read, labels))
        with torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            loss = self.model(**batch, use_cache=False).loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        state.count += sum(len(row) - 1 for row in rows)
        return float(loss.detach())

    def _disturbed(self, rows: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        config = self.config
        if not config.replaced_units and not config.left_out_units:
            return rows, rows
        generator = np.random.default_rng((config.seed, 1, self.state.step))
        unit_ids = (len(SPECIAL_TOKENS), self.model.config.vocab_size)
        return disturb(rows, generator, unit_ids, replaced=config.replaced_units, left_out=config.left_out_units)


def _on(device: torch.device, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}


@torch.no_grad()
def evaluate_loss(model: GSLMForCausalLM, rows: Sequence[np.ndarray], *, tokens_per_batch: int = 8192) -> float:
    """Mean loss in nats a predicted token over rows of [`make_rows`]."""
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    for indices in make_batches(rows, tokens_per_batch, np.random.default_rng(0)):
        part = [rows[index] for index in indices]
        tokens = sum(len(row) - 1 for row in part)
        batch = _on(model.device, collate_rows(part))
        total += float(model(**batch, use_cache=False).loss) * tokens
        count += tokens
    model.train(was_training)
    return total / count
