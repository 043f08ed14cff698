"""Training of a unit vocoder: HiFi-GAN's losses, on one process or several, resumed exactly."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import ConfigurationError
from ..modeling.configuration_unit_hifigan import UnitHifiGanConfig
from ..modeling.configuration_unit_vocos import UnitVocosConfig
from ..modeling.modeling_unit_hifigan import UnitHifiGan
from ..modeling.modeling_unit_vocoder import UnitVocoder
from ..modeling.modeling_unit_vocos import UnitVocos
from ..pretraining.checkpoints import UNITS_IDENTITY, HasState, ResumableRun
from ..pretraining.processes import Processes
from .aligned_speech import AlignedSpeech, SpeechBatch
from .discriminators import Discriminators
from .losses import adversarial_loss, discriminator_loss, duration_loss, feature_loss, mel_loss
from .mel import MelSpectrogram
from .vocoder_settings import VocoderTrainingConfig
from .vocoder_sizes import sizes_for_hop

__all__ = ["new_vocoder", "save_vocoder", "train_vocoder", "validate_vocoder"]

MAX_VALIDATION_SECONDS = 120.0
"""Of held-out speech in one validation."""


def new_vocoder(
    config: VocoderTrainingConfig, speech: AlignedSpeech, fingerprint: dict[str, Any], num_units: int
) -> Any:
    """A vocoder with random weights for these units.

    Args:
        config ([`VocoderTrainingConfig`]): its architecture and sizes.
        speech ([`AlignedSpeech`]): its rate, hop and voices.
        fingerprint (`dict`): identity of the units.
        num_units (`int`): K.

    Returns:
        `UnitVocoder`.

    Raises:
        ConfigurationError: the sizes do not fit each other, or the units' hop.
    """
    given: dict[str, Any] = {
        "vocab_size": num_units,
        "sampling_rate": speech.sampling_rate,
        "num_speakers": len(speech.speakers),
        "fingerprint": fingerprint,
        **sizes_for_hop(config.architecture, speech.hop),
        **config.model,
    }
    torch.manual_seed(config.seed)
    vocoder: UnitVocoder
    if config.architecture == "vocos":
        vocoder = UnitVocos(UnitVocosConfig(**given))
    else:
        vocoder = UnitHifiGan(UnitHifiGanConfig(**given))
    if vocoder.hop_length != speech.hop:
        raise ConfigurationError(
            f"the vocoder makes {vocoder.hop_length} samples of a frame, and the units have {speech.hop}",
            hint="leave out sizes that decide it, or give such whose product it is",
        )
    return vocoder


def train_vocoder(
    speech: AlignedSpeech,
    output: str | os.PathLike[str],
    num_steps: int,
    config: VocoderTrainingConfig | None = None,
    *,
    fingerprint: dict[str, Any],
    num_units: int,
    validation: AlignedSpeech | None = None,
    processes: Processes | None = None,
    show_progress: bool = True,
    on_report: Callable[[dict[str, float]], None] | None = None,
) -> Any:
    """Trains a vocoder; goes on from the last checkpoint in `output` if there is one.

    Started by torchrun or accelerate launch, all processes train one vocoder: each update's segments are shared out
    among them. The first one writes.

    Args:
        speech ([`AlignedSpeech`]): to learn from.
        output (`str | PathLike`): receives `checkpoint.pt`, `log.jsonl`, `settings.json`, and the vocoder, which
            `AutoModel.from_pretrained` opens in float32.
        num_steps (`int`): updates in all; a finished run goes on if there are more now.
        config ([`VocoderTrainingConfig`], *optional*): the settings.
        fingerprint (`dict`): identity of the units.
        num_units (`int`): K.
        validation ([`AlignedSpeech`], *optional*): speech that is only looked at.
        processes ([`Processes`], *optional*): who trains together; alone, or as the launcher says, by default.
        show_progress (`bool`, *optional*, defaults to `True`): a bar with the rate and the losses.
        on_report (`Callable`, *optional*): receives what is written to `log.jsonl`.

    Returns:
        `UnitVocoder`: in float32 on the CPU, in evaluation mode.

    Raises:
        ConfigurationError: `output` holds a checkpoint of other settings or speech, there are more processes than
            segments, parameters are to be sharded (FSDP), or the losses are not finite.
    """
    config = config or VocoderTrainingConfig()
    processes = processes or Processes.join()
    if processes.sharding is not None:
        raise ConfigurationError(
            "the training of a vocoder does not shard parameters (FSDP): it is small enough for every process",
            hint="start it with torchrun, or with distributed_type: MULTI_GPU in accelerate's configuration",
        )
    if config.batch_size % processes.size:
        raise ConfigurationError(
            f"{config.batch_size} segments cannot be shared by {processes.size} processes",
            hint="give a batch size that is a multiple of them",
        )
    path = Path(output)
    path.mkdir(parents=True, exist_ok=True)
    vocoder = new_vocoder(config, speech, fingerprint, num_units).to(processes.device)
    identity = {UNITS_IDENTITY: fingerprint.get("digest"), "speech": speech.digest}
    run = _Run(vocoder, config, path, identity, processes, on_report)
    run.train(speech, validation, num_steps, show_progress=show_progress)
    return vocoder.cpu().eval()


class _Heard(nn.Module):
    """What is trained of a vocoder, in one call: the sound of frames, and the durations of units."""

    def __init__(self, vocoder: UnitVocoder) -> None:
        super().__init__()
        self.vocoder = vocoder

    def forward(self, batch: SpeechBatch) -> tuple[Tensor, Tensor | None]:
        """Samples of shape `(B, S)`, and logarithms of durations plus one of shape `(B, U)`."""
        vocoder = self.vocoder
        is_ragged = bool((batch.num_frames < batch.frames.shape[1]).any())
        speakers = batch.speakers if vocoder.config.num_speakers else None
        made = vocoder.sound(batch.frames, batch.num_frames if is_ragged else None, speakers).float()
        if vocoder.duration_predictor is None:
            return made, None
        return made, vocoder.duration_predictor(vocoder.unit_embedding(batch.units), batch.durations == 0)


class _Run:
    """The loop over updates."""

    def __init__(
        self,
        vocoder: UnitVocoder,
        config: VocoderTrainingConfig,
        output: Path,
        identity: dict[str, str | None],
        processes: Processes,
        on_report: Callable[[dict[str, float]], None] | None,
    ) -> None:
        self.vocoder, self.config, self.output, self.processes = vocoder, config, output, processes
        torch.manual_seed(config.seed + 1)
        self.discriminators = Discriminators(
            config.periods, config.num_scales, config.spectrum_windows, config.discriminator_width
        ).to(processes.device)
        self.mels = nn.ModuleList(
            MelSpectrogram(vocoder.sampling_rate, n_fft=size, hop=size // 4, num_bands=_bands(size))
            for size in config.mel_windows
        ).to(processes.device)
        self.heard = processes.wrap(_Heard(vocoder))
        self.judges = processes.wrap(self.discriminators)
        self.optimizer = self._adamw(vocoder)
        self.judging_optimizer = self._adamw(self.discriminators)
        states: dict[str, HasState] = {
            "vocoder": vocoder,
            "discriminators": self.discriminators,
            "optimizer": self.optimizer,
            "discriminator_optimizer": self.judging_optimizer,
        }
        self.state = ResumableRun(output, config, identity, states, counted="steps", on_report=on_report)

    def _adamw(self, module: nn.Module) -> torch.optim.AdamW:
        config = self.config
        return torch.optim.AdamW(
            module.parameters(),
            lr=config.learning_rate,
            betas=(0.8, 0.99),
            weight_decay=config.weight_decay,
            fused=self.processes.device.type in ("cpu", "cuda"),
        )

    def train(
        self, speech: AlignedSpeech, validation: AlignedSpeech | None, num_steps: int, *, show_progress: bool
    ) -> None:
        from tqdm.auto import tqdm

        state, config, is_main = self.state, self.config, self.processes.is_main
        started = time.perf_counter() - state.seconds
        recent: dict[str, list[float]] = {}
        with tqdm(total=num_steps, initial=state.step, desc="vocoder", disable=not (show_progress and is_main)) as bar:
            while state.step < num_steps:
                losses = self.train_step(speech)
                state.step += 1
                state.count += 1
                state.seconds = time.perf_counter() - started
                for name, value in losses.items():
                    recent.setdefault(name, []).append(value)
                bar.update()
                bar.set_postfix(mel=f"{state.smooth(losses['mel'], 0.95):.3f}", refresh=False)
                if not is_main:
                    continue
                last = state.step == num_steps
                if last or state.step % 50 == 0:
                    state.report({name: float(np.mean(values)) for name, values in recent.items()})
                    recent = {}
                if validation is not None and (last or state.step % config.validate_every == 0):
                    state.report(validate_vocoder(self.vocoder, validation))
                if config.snapshot_every and state.step % config.snapshot_every == 0:
                    save_vocoder(self.vocoder, self.output / "snapshots" / f"step-{state.step:06d}")
                if last or state.step % config.checkpoint_every == 0:
                    save_vocoder(self.vocoder, self.output)
                    state.save()
        self.processes.wait()

    def train_step(self, speech: AlignedSpeech) -> dict[str, float]:
        """One update; all its draws come from the seed and its number, so that resuming changes nothing."""
        config, step, processes = self.config, self.state.step, self.processes
        generator = np.random.default_rng((config.seed, step))
        batch = speech.draw(generator, batch_size=config.batch_size, num_frames=config.segment_frames)
        torch.manual_seed(config.seed * 1_000_003 + step * processes.size + processes.rank)  # dropout
        num_units = int((batch.durations > 0).sum())
        cut = self._cut(generator)
        batch = batch.rows(slice(processes.rank, None, processes.size)).to(processes.device)
        for optimizer, rate in zip((self.optimizer, self.judging_optimizer), config.rates(step), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate
        self.vocoder.train()
        made, logarithms = self.heard(batch)
        is_adversarial = step >= config.adversarial_start
        losses = self._train_discriminators(batch.waveform[:, cut], made[:, cut].detach()) if is_adversarial else {}
        losses |= self._train_vocoder(batch, made, logarithms, num_units, cut if is_adversarial else None)
        means = {name: float(processes.sum(value.detach())) / processes.size for name, value in losses.items()}
        if not all(map(math.isfinite, means.values())):
            found = ", ".join(f"{name} {value}" for name, value in means.items())
            raise ConfigurationError(
                f"the losses of update {step + 1} are not finite: {found}",
                hint="go on from the last checkpoint with a lower learning rate in another folder",
                is_mistake=False,
            )
        return means

    def _cut(self, generator: np.random.Generator) -> slice:
        """The samples of every segment that discriminators read."""
        config, hop = self.config, self.vocoder.hop_length
        num_frames = min(config.discriminator_frames, config.segment_frames)
        first = int(generator.integers(config.segment_frames - num_frames + 1))
        return slice(first * hop, (first + num_frames) * hop)

    def _train_discriminators(self, real: Tensor, made: Tensor) -> dict[str, Tensor]:
        self.discriminators.requires_grad_(True)
        # One call for both, as several processes exchange gradients once a call.
        real_verdicts, made_verdicts = _halves(self.judges(torch.cat([real, made])), len(real))
        loss = discriminator_loss(real_verdicts, made_verdicts)
        self.judging_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.discriminators.parameters(), self.config.clip_norm)
        self.judging_optimizer.step()
        return {"discriminators": loss}

    def _train_vocoder(
        self, batch: SpeechBatch, made: Tensor, logarithms: Tensor | None, num_units: int, cut: slice | None
    ) -> dict[str, Tensor]:
        config = self.config
        with torch.no_grad():
            real_mels = [mel(batch.waveform) for mel in self.mels]
        losses = {"mel": mel_loss(real_mels, [mel(made) for mel in self.mels])}
        total = config.mel_weight * losses["mel"]
        if logarithms is not None:
            losses["duration"] = duration_loss(
                logarithms, batch.durations, batch.durations > 0, num_units / self.processes.size
            )
            total = total + config.duration_weight * losses["duration"]
        if cut is not None:
            self.discriminators.requires_grad_(False)
            with torch.no_grad():
                real_verdicts = self.discriminators(batch.waveform[:, cut])
            made_verdicts = self.discriminators(made[:, cut])
            losses["adversarial"] = adversarial_loss(made_verdicts)
            losses["features"] = feature_loss(real_verdicts, made_verdicts)
            total = total + losses["adversarial"] + config.feature_weight * losses["features"]
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.vocoder.parameters(), config.clip_norm)
        self.optimizer.step()
        return losses


def _bands(n_fft: int) -> int:
    """Mel bands of a resolution: HiFi-GAN's 80, fewer where the window does not resolve them."""
    return min(80, max(5, n_fft // 16))


def _halves(verdicts: Sequence[Any], num_rows: int) -> tuple[list[Any], list[Any]]:
    first = [(scores[:num_rows], [each[:num_rows] for each in features]) for scores, features in verdicts]
    second = [(scores[num_rows:], [each[num_rows:] for each in features]) for scores, features in verdicts]
    return first, second


@torch.no_grad()
def validate_vocoder(vocoder: UnitVocoder, speech: AlignedSpeech) -> dict[str, float]:
    """Distance of whole held-out recordings from what is made of their units.

    Args:
        vocoder (`UnitVocoder`): left in the mode that it was in.
        speech ([`AlignedSpeech`]): held out; the first two minutes of it are used.

    Returns:
        `dict`: `validation_mel`, the mean absolute difference of HiFi-GAN's log mel spectra (80 bands, window 1024,
        hop 256), and `validation_duration`, the mean absolute difference of predicted and true durations in frames.
    """
    was_training = vocoder.training
    vocoder.eval()
    mel = MelSpectrogram(vocoder.sampling_rate).to(vocoder.device)
    difference, count, seconds, missed, num_units = 0.0, 0, 0.0, 0, 0
    for row in range(len(speech)):
        frames, wave, voice = speech.recording(row)
        units = torch.from_numpy(frames).to(vocoder.device)
        speakers = torch.tensor([voice], device=vocoder.device) if vocoder.config.num_speakers else None
        made = vocoder.sound(units[None], None, speakers).float()
        real = mel(torch.from_numpy(wave)[None].to(vocoder.device))
        difference += float((mel(made) - real).abs().sum())
        count += real.numel()
        if vocoder.duration_predictor is not None:
            merged, durations = torch.unique_consecutive(units, return_counts=True)
            missed += int((vocoder.predicted_frames(merged) - durations).abs().sum())
            num_units += len(merged)
        seconds += len(wave) / speech.sampling_rate
        if seconds >= MAX_VALIDATION_SECONDS:
            break
    vocoder.train(was_training)
    report = {"validation_mel": difference / count}
    return {**report, "validation_duration": missed / num_units} if num_units else report


def save_vocoder(vocoder: UnitVocoder, folder: str | os.PathLike[str]) -> None:
    """Writes a vocoder: a `UnitVocos` in float16, as it opens in float32; others, which open as saved, in float32.

    Args:
        vocoder (`UnitVocoder`): is not changed.
        folder (`str | PathLike`): made if absent.
    """
    # A copy: half precision changes the parameters in place.
    copied = copy.deepcopy(vocoder).cpu()
    if isinstance(copied, UnitVocos):
        copied.half()
    copied.save_pretrained(folder)
