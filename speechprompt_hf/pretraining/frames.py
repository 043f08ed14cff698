"""What a student learns from: crops of taught windows, with targets picked frame by frame."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.errors import ConfigurationError
from .augmentation import change_speed
from .packing import speech_frames
from .quantization import fit_quantizer, nearest
from .teacher import read_spans

TEACHER_HOP = 320
#: Student frame j of a recording is centred on sample 320 j + 360 (see `filterbank.student_config`).
STUDENT_HOP, STUDENT_CENTRE, STUDENT_FIELD = 320, 360, 720


@dataclass(frozen=True)
class Batch:
    """One step's material.

    Args:
        waves (`Tensor`): float32 (B, S), not yet disturbed.
        targets (`Tensor`): float32 (B, T, D), standardised teacher features.
        clusters (`Tensor`): int64 (B, T), the targets' clusters.
        weights (`Tensor`): float32 (B, T), 1 on speech and less on gaps.
        units (`Tensor`): int64 (B, T), the targets' units, a coarser clustering.
    """

    waves: Tensor
    targets: Tensor
    clusters: Tensor
    weights: Tensor
    units: Tensor

    def rows(self, chosen: slice) -> Batch:
        """These rows of the batch."""
        return Batch(*(getattr(self, each.name)[chosen] for each in fields(self)))

    def to(self, device: torch.device) -> Batch:
        """The batch on this device."""
        return Batch(*(getattr(self, each.name).to(device) for each in fields(self)))


def shard_digest(folder: str | Path) -> str:
    """SHA-256 of a shard's clips and of what its teacher made of them, from a sample of both.

    Shards have gigabytes: the layout is hashed whole, sound and features of up to 64 windows spread over the shard.
    """
    digest = hashlib.sha256((Path(folder) / "spans.json").read_bytes())
    for name in ("audio.npy", "features.npy"):
        values = np.load(Path(folder) / name, mmap_mode="r")
        for window in np.unique(np.linspace(0, len(values) - 1, 64).astype(int)):
            digest.update(np.ascontiguousarray(values[window]).tobytes())
    return digest.hexdigest()


class TaughtShards:
    """Folders that [`teacher.write_shard`] filled, seen as one corpus of (window, frame) pairs.

    Targets are standardised per dimension; what the teacher says of a frame's place in its window (the mean over all
    windows, for each of the 1500 places) is taken off first: the student cannot know it.

    Args:
        folders (`Sequence[str | Path]`): the shards.
        shares (`Sequence[float]`, *optional*): how often each is drawn; by its number of windows by default.
        gap_weight (`float`, *optional*, defaults to 0.1): weight of frames in silent gaps.
        statistics ([`TaughtShards`], *optional*): take standardisation and clusters from there.
        num_clusters (`int`, *optional*, defaults to 500): clusters of the targets.
        num_units (`int`, *optional*, defaults to 100): units of the targets.
        seed (`int`, *optional*, defaults to 0): of the clusters.

    Raises:
        ConfigurationError: a shard is not finished.
    """

    def __init__(
        self,
        folders: Sequence[str | Path],
        *,
        shares: Sequence[float] | None = None,
        gap_weight: float = 0.1,
        statistics: TaughtShards | None = None,
        num_clusters: int = 500,
        num_units: int = 100,
        seed: int = 0,
    ) -> None:
        self.audio = [np.load(Path(folder) / "audio.npy", mmap_mode="r") for folder in folders]
        self.features = [np.load(Path(folder) / "features.npy", mmap_mode="r") for folder in folders]
        for folder, features in zip(folders, self.features, strict=True):
            if not np.asarray(features[-1], dtype=np.float32).any():
                raise ConfigurationError(f"{folder} is not taught to its end.", hint="Run the teacher again.")
        self.speech = [
            speech_frames(read_spans(folder), *features.shape[:2])
            for folder, features in zip(folders, self.features, strict=True)
        ]
        counts = np.array(shares if shares is not None else [len(block) for block in self.features], dtype=float)
        self.shares = counts / counts.sum()
        self.gap_weight = gap_weight
        self.num_windows = sum(len(block) for block in self.features)
        self.seconds = sum(mask.sum() for mask in self.speech) * TEACHER_HOP / 16_000
        self.position_mean: np.ndarray
        self.scale: np.ndarray
        self.cluster_centres: Tensor
        self.unit_centres: Tensor
        if statistics is None:
            self._measure(num_clusters, num_units, seed)
        else:
            self.position_mean, self.scale = statistics.position_mean, statistics.scale
            self.cluster_centres, self.unit_centres = statistics.cluster_centres, statistics.unit_centres

    @property
    def width(self) -> int:
        """D, the teacher's width."""
        return int(self.features[0].shape[2])

    def _measure(self, num_clusters: int, num_units: int, seed: int) -> None:
        """Mean of each place, deviation of each dimension, and clusters of the standardised targets."""
        places, width = self.features[0].shape[1:]
        sums, counts = np.zeros((places, width)), np.zeros((places, 1))
        for features, speech in zip(self.features, self.speech, strict=True):
            for block, mask in zip(features, speech, strict=True):
                sums += np.where(mask[:, None], block, 0)
                counts += mask[:, None]
        overall = sums.sum(0) / max(1, counts.sum())
        # Few windows: lean on the overall mean, as if it had been seen 50 more times at each place.
        self.position_mean = ((sums + 50 * overall) / (counts + 50)).astype(np.float32)
        self.scale = np.ones(width, dtype=np.float32)
        generator = np.random.default_rng(seed)
        sample = self._sample_targets(generator, num_frames=60_000)
        self.scale = sample.std(0).astype(np.float32) + 1e-6
        self.cluster_centres = _centres(sample / self.scale, num_clusters, seed=seed, num_passes=4)
        self.unit_centres = _centres(sample / self.scale, num_units, seed=seed, num_passes=10)

    def _sample_targets(self, generator: np.random.Generator, *, num_frames: int) -> np.ndarray:
        rows = []
        per_window = max(1, num_frames // self.num_windows)
        for features, speech in zip(self.features, self.speech, strict=True):
            for window in range(len(features)):
                marked = np.flatnonzero(speech[window])
                places = generator.choice(marked, size=min(per_window, len(marked)), replace=False)
                rows.append(features[window][places].astype(np.float32) - self.position_mean[places])
        return np.concatenate(rows)

    def draw(
        self,
        generator: np.random.Generator,
        *,
        batch_size: int,
        num_frames: int,
        warp_probability: float = 0.0,
        warp_range: tuple[float, float] = (0.8, 1.25),
    ) -> Batch:
        """Draws crops: random windows, places, sample offsets and, if asked, speeds.

        Args:
            generator (`np.random.Generator`): source of all draws.
            batch_size (`int`): B.
            num_frames (`int`): T, the student's frames of a crop.
            warp_probability (`float`, *optional*, defaults to 0.0): share of crops played at another speed.
            warp_range (`tuple[float, float]`, *optional*, defaults to `(0.8, 1.25)`): those speeds.
        """
        num_samples = STUDENT_FIELD + STUDENT_HOP * (num_frames - 1)
        waves = np.empty((batch_size, num_samples), dtype=np.float32)
        targets = np.empty((batch_size, num_frames, self.width), dtype=np.float32)
        weights = np.empty((batch_size, num_frames), dtype=np.float32)
        for row in range(batch_size):
            shard = int(generator.choice(len(self.shares), p=self.shares))
            window = int(generator.integers(len(self.audio[shard])))
            warped = generator.random() < warp_probability
            speed = round(float(np.exp(generator.uniform(*np.log(warp_range)))), 2) if warped else 1.0
            wave, places = self._crop(shard, window, num_samples, num_frames, speed, generator)
            waves[row] = wave
            targets[row] = self.features[shard][window][places].astype(np.float32) - self.position_mean[places]
            weights[row] = np.where(self.speech[shard][window][places], 1.0, self.gap_weight)
        standardised = torch.from_numpy(targets / self.scale)
        clusters, units = (
            nearest(standardised.flatten(0, 1), centres)[0].reshape(batch_size, num_frames)
            for centres in (self.cluster_centres, self.unit_centres)
        )
        return Batch(torch.from_numpy(waves), standardised, clusters, torch.from_numpy(weights), units)

    def _crop(
        self,
        shard: int,
        window: int,
        num_samples: int,
        num_frames: int,
        speed: float,
        generator: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Samples of a crop at a speed, and the teacher's frame under the centre of each of its frames."""
        audio = self.audio[shard][window]
        needed = int(np.ceil(num_samples * speed)) + 64
        start = int(generator.integers(0, max(1, len(audio) - needed)))
        if speed == 1.0:
            wave = audio[start : start + num_samples].astype(np.float32) / 32768
        else:
            wave = change_speed(audio[start : start + needed].astype(np.float32) / 32768, speed)[:num_samples]
        wave = np.pad(wave, (0, num_samples - len(wave)))
        centres = start + (STUDENT_HOP * np.arange(num_frames) + STUDENT_CENTRE) * speed
        places = np.round(centres / TEACHER_HOP).astype(np.int64)
        return wave, places.clip(0, self.features[shard].shape[1] - 1)


def _centres(sample: np.ndarray, num_clusters: int, *, seed: int, num_passes: int) -> Tensor:
    fit = fit_quantizer(
        sample,
        min(num_clusters, len(sample)),
        num_epochs=4,
        num_full_passes=num_passes,
        num_restarts=1,
        seed=seed,
        show_progress=False,
    )
    return torch.from_numpy(fit.centroids)
