"""Distillation: a small HubertModel learns a teacher's frame features from taught shards."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import HubertModel

from ..core.errors import ConfigurationError
from .augmentation import AugmentationConfig, augment, unit_variance
from .checkpoints import ResumableRun, adamw
from .filterbank import initialise_filterbank, student_config
from .frames import Batch, TaughtShards, shard_digest
from .precision import computes_bfloat16
from .pretraining_settings import check_at_least
from .processes import Processes
from .quantization import save_centroids
from .student import Student, distillation_loss, export_encoder, take_over


@dataclass(frozen=True)
class DistillationConfig:
    """Settings of a distillation; the defaults made the embedded backbone.

    Args:
        cycles (`tuple[tuple[int, float], ...]`, *optional*): steps and peak learning rate of each warm-up and cosine.
        warp_from_cycle (`int`, *optional*, defaults to 1): first cycle (from 0) in which crops are also played at
            another speed.
        warp_probability (`float`, *optional*, defaults to 0.6): share of such crops.
        warm_up_steps (`int`, *optional*, defaults to 200): at the start of each cycle.
        crop_frames (`tuple[int, ...]`, *optional*): lengths of crops in frames of 20 ms, one is drawn a step.
        frames_per_step (`int`, *optional*, defaults to 1800): frames of a step, 36 s.
        clean_probability (`float`, *optional*, defaults to 0.15): share of steps without disturbance.
        cluster_weight (`float`, *optional*, defaults to 0.3): weight of the cross-entropy on the teacher's clusters.
        num_units (`int`, *optional*, defaults to 0): prototypes trained with the encoder, so that the nearest one
            tells the teacher's unit; they start at the mean states of each unit. 0 for none.
        unit_weight (`float`, *optional*, defaults to 1.0): weight of the cross-entropy on units.
        weight_decay (`float`, *optional*, defaults to 0.01): of AdamW (betas 0.9, 0.98).
        clip_norm (`float`, *optional*, defaults to 1.0): bound of the gradient's norm.
        bf16 (`bool`, *optional*, defaults to `True`): autocast to bfloat16, where the device computes in it.
        seed (`int`, *optional*, defaults to 0): of weights and draws.
        cluster_seed (`int`, *optional*, defaults to 0): of the teacher's clusters and units.
        checkpoint_every (`int`, *optional*, defaults to 100): steps between checkpoints.
        validate_every (`int`, *optional*, defaults to 500): steps between validations.
        augmentation ([`AugmentationConfig`], *optional*): disturbances of the student's input.
        student (`dict`, *optional*): arguments of [`filterbank.student_config`].

    Raises:
        ConfigurationError: a number of frames or steps is too low.
    """

    cycles: tuple[tuple[int, float], ...] = ((1700, 1e-3), (2600, 7e-4))
    warp_from_cycle: int = 1
    warp_probability: float = 0.6
    warm_up_steps: int = 200
    crop_frames: tuple[int, ...] = (25, 50, 80, 150, 300)
    frames_per_step: int = 1800
    clean_probability: float = 0.15
    cluster_weight: float = 0.3
    num_units: int = 0
    unit_weight: float = 1.0
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    bf16: bool = True
    seed: int = 0
    cluster_seed: int = 0
    checkpoint_every: int = 100
    validate_every: int = 500
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    student: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_at_least(self, frames_per_step=1, checkpoint_every=1, validate_every=1)

    @property
    def num_steps(self) -> int:
        """Steps of all cycles."""
        return sum(steps for steps, _ in self.cycles)

    def learning_rate(self, step: int) -> tuple[float, int]:
        """Learning rate at a step and the index of its cycle: linear warm-up, then half a cosine."""
        cycle = 0
        while step >= self.cycles[cycle][0] and cycle < len(self.cycles) - 1:
            step -= self.cycles[cycle][0]
            cycle += 1
        steps, peak = self.cycles[cycle]
        warm_up = min(self.warm_up_steps, max(1, steps // 5))
        if step < warm_up:
            return peak * (step + 1) / warm_up, cycle
        share = (step - warm_up) / max(1, steps - warm_up)
        return peak * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * min(1.0, share))))), cycle


def distill(
    shards: Sequence[str | Path],
    output: str | Path,
    config: DistillationConfig | None = None,
    *,
    validation: Sequence[str | Path] = (),
    shares: Sequence[float] | None = None,
    start_from: str | Path | None = None,
    device: str | torch.device | None = None,
    processes: Processes | None = None,
    show_progress: bool = True,
    on_report: Callable[[dict[str, float]], None] | None = None,
) -> HubertModel:
    """Trains a student; goes on from the last checkpoint in `output` if there is one.

    Started by torchrun or accelerate launch, all processes train one student: each step's crops are shared out among
    them, so that their number changes rounding alone. The first one writes.

    Args:
        shards (`Sequence[str | Path]`): folders of [`teacher.write_shard`].
        output (`str` or `Path`): receives `checkpoint.pt` while training, `log.jsonl`, and at the end of each cycle
            `encoder/`, a folder for `HubertModel.from_pretrained` in float16.
        config ([`DistillationConfig`], *optional*): the settings.
        validation (`Sequence[str | Path]`, *optional*): shards that are only looked at.
        shares (`Sequence[float]`, *optional*): how often each shard is drawn.
        start_from (`str` or `Path`, *optional*): the output folder of an earlier run whose weights are taken over, or
            the folder of a smaller encoder of the same width; layers that it lacks start anew.
        device (`str | torch.device`, *optional*): where to train; a GPU where there is one by default.
        processes ([`Processes`], *optional*): who trains together, if they have met before.
        show_progress (`bool`, *optional*, defaults to `True`): a bar with the rate and the loss.
        on_report (`Callable`, *optional*): receives what is written to `log.jsonl`.

    Returns:
        `HubertModel`: the student in float32 on the CPU, in evaluation mode.

    Raises:
        ConfigurationError: `output` holds a checkpoint of other settings or shards, `start_from` does not fit, there
            is no such device, or sharded parameters (FSDP) are asked for.
    """
    config = config or DistillationConfig()
    processes = processes or Processes.join(device)
    if processes.sharding is not None:
        raise ConfigurationError(
            "distillation does not shard parameters (FSDP): a student is small enough for every process",
            hint="start it with torchrun, or with distributed_type: MULTI_GPU in accelerate's configuration",
        )
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    data = TaughtShards(shards, shares=shares, num_units=config.num_units or 100, seed=config.cluster_seed)
    held_out = TaughtShards(validation, statistics=data) if validation else None
    torch.manual_seed(config.seed)
    student = Student(student_config(**config.student), data.width, len(data.cluster_centres), config.num_units)
    generator = np.random.default_rng(config.seed)
    if start_from is None:
        waves = data.draw(generator, batch_size=32, num_frames=150).waves
        initialise_filterbank(student.encoder, unit_variance(waves), seed=config.seed)
    else:
        take_over(student, start_from)
    if config.num_units:
        batch = data.draw(generator, batch_size=300, num_frames=150)
        student.start_prototypes(unit_variance(batch.waves), batch.units.masked_fill(batch.weights < 1, -1))
    student.to(processes.device)
    identity: dict[str, str | None] = {f"shard {number}": shard_digest(shard) for number, shard in enumerate(shards)}
    run = _Run(student, config, output, identity, processes, show_progress=show_progress, on_report=on_report)
    run.train(data, held_out)
    return student.encoder.cpu().eval()


class _Run:
    """The loop over steps."""

    def __init__(
        self,
        student: Student,
        config: DistillationConfig,
        output: Path,
        identity: dict[str, str | None],
        processes: Processes,
        *,
        show_progress: bool,
        on_report: Callable[[dict[str, float]], None] | None,
    ) -> None:
        self.student, self.config, self.output, self.processes = student, config, output, processes
        self.show_progress = show_progress and processes.is_main
        self.bf16 = config.bf16 and computes_bfloat16(processes.device)
        self.wrapped = processes.wrap(student)
        self.optimizer = adamw(student, config.cycles[0][1], config.weight_decay)
        states: dict[str, nn.Module | torch.optim.Optimizer] = {"student": student, "optimizer": self.optimizer}
        self.state = ResumableRun(output, config, identity, states, counted="steps", on_report=on_report)

    def train(self, data: TaughtShards, held_out: TaughtShards | None) -> None:
        from tqdm.auto import tqdm

        state = self.state
        boundaries = set(np.cumsum([steps for steps, _ in self.config.cycles]).tolist())
        started = time.perf_counter() - state.seconds
        bar = tqdm(total=self.config.num_steps, initial=state.step, desc="distilling", disable=not self.show_progress)
        with bar:
            while state.step < self.config.num_steps:
                loss, parts = self.train_step(data)
                state.step += 1
                state.count += 1
                smoothed = state.smooth(loss, 0.98)
                bar.update()
                bar.set_postfix(loss=f"{smoothed:.3f}", refresh=False)
                state.seconds = time.perf_counter() - started
                finished = state.step in boundaries
                if not self.processes.is_main:
                    continue
                if state.step % 50 == 0:
                    state.report({"loss": smoothed, **parts})
                if held_out is not None and (finished or state.step % self.config.validate_every == 0):
                    state.report(self.validate(held_out))
                if finished or state.step % self.config.checkpoint_every == 0:
                    state.save()
                if finished:
                    export_encoder(self.student.encoder, self.output / "encoder")
                    if self.student.prototypes is not None:
                        save_centroids(self.student.prototypes, self.output / "quantizer.safetensors")
        self.processes.wait()

    def train_step(self, data: TaughtShards) -> tuple[float, dict[str, float]]:
        """One step; all its draws come from the seed and the step's number, so that resuming changes nothing."""
        config = self.config
        generator = np.random.default_rng((config.seed, self.state.step))
        rate, cycle = config.learning_rate(self.state.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        num_frames = int(generator.choice(config.crop_frames))
        batch = data.draw(
            generator,
            batch_size=max(1, config.frames_per_step // num_frames),
            num_frames=num_frames,
            warp_probability=config.warp_probability if cycle >= config.warp_from_cycle else 0.0,
        )
        if generator.random() < config.clean_probability:
            waves = unit_variance(batch.waves)
        else:
            waves = augment(batch.waves, generator, config.augmentation)
        self.student.train()
        processes, total_weight = self.processes, batch.weights.sum()
        own = slice(processes.rank, None, processes.size)
        if processes.rank >= len(waves):  # more processes than crops: take part in the exchange, and say nothing
            own = slice(0, 1)
            batch.weights.zero_()
        with torch.autocast(processes.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            outputs = self.wrapped(waves[own].to(processes.device))
        loss, parts = self.loss(outputs, batch.rows(own).to(processes.device), total_weight.to(processes.device))
        self.optimizer.zero_grad(set_to_none=True)
        # Gradients are averaged over processes, and these losses are shares of a sum.
        (processes.size * loss).backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), config.clip_norm)
        self.optimizer.step()
        return float(processes.sum(loss.detach())), {name: float(processes.sum(part)) for name, part in parts.items()}

    def loss(
        self, outputs: tuple[Tensor, Tensor, Tensor | None], batch: Batch, total_weight: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the student's three outputs, and its parts."""
        return distillation_loss(
            *outputs[:2],
            batch,
            cluster_weight=self.config.cluster_weight,
            unit_scores=outputs[2],
            unit_weight=self.config.unit_weight,
            total_weight=total_weight,
        )

    @torch.no_grad()
    def validate(self, held_out: TaughtShards, *, num_batches: int = 12) -> dict[str, float]:
        """Loss on crops of held-out speech, always the same crops, not disturbed."""
        self.student.eval()
        generator = np.random.default_rng(12345)
        sums: dict[str, float] = {}
        for index in range(num_batches):
            num_frames = self.config.crop_frames[index % len(self.config.crop_frames)]
            batch = held_out.draw(generator, batch_size=max(1, 1800 // num_frames), num_frames=num_frames)
            batch = batch.to(self.processes.device)
            loss, parts = self.loss(self.student(unit_variance(batch.waves)), batch)
            for name, value in {"loss": loss, **parts}.items():
                sums[f"validation_{name}"] = sums.get(f"validation_{name}", 0.0) + float(value) / num_batches
        return sums
