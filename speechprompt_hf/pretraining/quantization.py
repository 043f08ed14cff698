"""k-means on frame features: mini-batches, a seed, and safetensors out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ..core.errors import ConfigurationError
from ..core.files import atomic_path

_INITIAL_FRAMES = 20_000


@dataclass(frozen=True)
class QuantizerFit:
    """What [`fit_quantizer`] found.

    Args:
        centroids (`np.ndarray`): float32 of shape (K, F).
        inertia (`float`): mean squared distance of a frame from its centroid.
        shares (`np.ndarray`): float64 of shape (K,), the share of frames of each cluster.
    """

    centroids: np.ndarray
    inertia: float
    shares: np.ndarray

    def save(self, path: str | Path, metadata: dict[str, str] | None = None) -> None:
        """Writes `centroids` (float32) as safetensors, whole or not at all."""
        save_centroids(torch.from_numpy(self.centroids), path, metadata)


def save_centroids(centroids: Tensor, path: str | Path, metadata: dict[str, str] | None = None) -> None:
    """Writes centroids (K, F) as float32 under the name `centroids`, whole or not at all."""
    with atomic_path(path) as temporary:
        save_file({"centroids": centroids.detach().float().contiguous()}, temporary, metadata)


def nearest(features: Tensor, centroids: Tensor, *, chunk_size: int = 65_536) -> tuple[Tensor, Tensor]:
    """Index of the nearest centroid and the squared distance, for (N, F) features and (K, F) centroids."""
    labels, distances = [], []
    norms = centroids.square().sum(dim=1)
    for chunk in features.split(chunk_size):
        scores = norms - 2 * chunk @ centroids.T
        best = scores.min(dim=1)
        labels.append(best.indices)
        distances.append((best.values + chunk.square().sum(dim=1)).clamp_min(0))
    return torch.cat(labels), torch.cat(distances)


def fit_quantizer(
    features: np.ndarray,
    num_clusters: int = 100,
    *,
    batch_size: int = 10_000,
    num_epochs: int = 10,
    num_full_passes: int = 10,
    num_restarts: int = 3,
    seed: int = 0,
    show_progress: bool = True,
) -> QuantizerFit:
    """Fits k-means: k-means++ seeds (the best of several draws), mini-batches, then passes over everything.

    Args:
        features (`np.ndarray`): float of shape (N, F), frames of speech without padding.
        num_clusters (`int`, *optional*, defaults to 100): K.
        batch_size (`int`, *optional*, defaults to 10000): frames a mini-batch.
        num_epochs (`int`, *optional*, defaults to 10): passes in mini-batches.
        num_full_passes (`int`, *optional*, defaults to 10): Lloyd iterations over all frames at the end.
        num_restarts (`int`, *optional*, defaults to 3): draws of the seeds on a part of the frames.
        seed (`int`, *optional*, defaults to 0): of all draws; the same seed gives the same centroids.
        show_progress (`bool`, *optional*, defaults to `True`): a bar over the passes.

    Returns:
        [`QuantizerFit`]

    Raises:
        ConfigurationError: fewer frames than clusters, or values that are not finite.
    """
    from tqdm.auto import tqdm

    if features.ndim != 2 or len(features) < num_clusters:
        raise ConfigurationError(
            f"k-means with {num_clusters} clusters got features of shape {features.shape}.",
            hint="Give at least as many frames as clusters, as an array of shape (frames, features).",
        )
    frames = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
    if not torch.isfinite(frames).all():
        raise ConfigurationError("The features hold values that are not finite.", hint="Check the recordings.")
    generator = np.random.default_rng(seed)
    centroids = _best_seeds(frames, num_clusters, num_restarts, generator)
    counts = torch.zeros(num_clusters)
    with tqdm(total=num_epochs + num_full_passes, desc="k-means", disable=not show_progress) as bar:
        for _ in range(num_epochs):
            order = torch.from_numpy(generator.permutation(len(frames)))
            for batch in order.split(batch_size):
                _mini_batch_step(frames[batch], centroids, counts)
            _revive_unused(frames, centroids, counts, generator)
            counts *= 0.5  # later epochs still move the centroids
            bar.update()
        for _ in range(num_full_passes):
            centroids = _lloyd_pass(frames, centroids)[0]
            bar.update()
    labels, distances = nearest(frames, centroids)
    shares = np.bincount(labels.numpy(), minlength=num_clusters) / len(frames)
    return QuantizerFit(centroids.numpy(), float(distances.mean()), shares)


def _best_seeds(frames: Tensor, num_clusters: int, num_restarts: int, generator: np.random.Generator) -> Tensor:
    size = min(len(frames), max(_INITIAL_FRAMES, num_clusters))
    best, best_distance = frames[:num_clusters], float("inf")
    for _ in range(max(1, num_restarts)):
        part = frames[torch.from_numpy(generator.choice(len(frames), size=size, replace=False))]
        seeds = _plus_plus(part, num_clusters, generator)
        for _ in range(3):
            seeds, distance = _lloyd_pass(part, seeds)
        if distance < best_distance:
            best, best_distance = seeds, distance
    return best.clone()


def _plus_plus(frames: Tensor, num_clusters: int, generator: np.random.Generator) -> Tensor:
    """k-means++: each seed is drawn in proportion to the squared distance from the seeds so far."""
    chosen = [int(generator.integers(len(frames)))]
    distances = (frames - frames[chosen[0]]).square().sum(dim=1)
    for _ in range(num_clusters - 1):
        cumulative = distances.double().cumsum(0)
        position = min(
            int(torch.searchsorted(cumulative, generator.random() * float(cumulative[-1]))), len(frames) - 1
        )
        chosen.append(position)
        distances = torch.minimum(distances, (frames - frames[position]).square().sum(dim=1))
    return frames[chosen].clone()


def _mini_batch_step(batch: Tensor, centroids: Tensor, counts: Tensor) -> None:
    labels, _ = nearest(batch, centroids)
    added = torch.bincount(labels, minlength=len(centroids)).float()
    sums = torch.zeros_like(centroids).index_add_(0, labels, batch)
    counts += added
    rate = (added / counts.clamp_min(1)).unsqueeze(1)
    centroids.lerp_(torch.where(added[:, None] > 0, sums / added[:, None].clamp_min(1), centroids), rate)


def _revive_unused(frames: Tensor, centroids: Tensor, counts: Tensor, generator: np.random.Generator) -> None:
    """Moves clusters with under a hundredth of the mean count onto random frames."""
    unused = torch.nonzero(counts < 0.01 * counts.mean()).flatten()
    for cluster in unused.tolist():
        centroids[cluster] = frames[int(generator.integers(len(frames)))]
        counts[cluster] = counts.mean()


def _lloyd_pass(frames: Tensor, centroids: Tensor) -> tuple[Tensor, float]:
    labels, distances = nearest(frames, centroids)
    sizes = torch.bincount(labels, minlength=len(centroids)).float().unsqueeze(1)
    sums = torch.zeros_like(centroids).index_add_(0, labels, frames)
    return torch.where(sizes > 0, sums / sizes.clamp_min(1), centroids), float(distances.mean())
