"""The student with its training heads, its loss, and its export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import HubertModel, Wav2Vec2FeatureExtractor

from ..core.errors import ConfigurationError
from .checkpoints import CHECKPOINT_FILE, read_checkpoint
from .frames import Batch


class Student(nn.Module):
    """The encoder with the two heads that only training needs.

    Args:
        config (`HubertConfig`): of the encoder.
        width (`int`): D of the teacher.
        num_clusters (`int`): of the teacher's targets.
        num_units (`int`, *optional*, defaults to 0): prototypes that are trained with the encoder; 0 for none.
    """

    def __init__(self, config: Any, width: int, num_clusters: int, num_units: int = 0) -> None:
        super().__init__()
        self.encoder = HubertModel(config)
        self.to_features = nn.Linear(config.hidden_size, width)
        self.to_clusters = nn.Linear(config.hidden_size, num_clusters)
        self.prototypes = nn.Parameter(torch.zeros(num_units, config.hidden_size)) if num_units else None
        self.log_sharpness = nn.Parameter(torch.tensor(0.0)) if num_units else None

    def forward(self, waves: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Waves (B, S) to predicted features (B, T, D), cluster logits (B, T, C) and unit logits (B, T, K)."""
        hidden = self.encoder(waves).last_hidden_state
        units = None
        if self.prototypes is not None and self.log_sharpness is not None:
            units = unit_logits(hidden.float(), self.prototypes, self.log_sharpness.exp())
        return self.to_features(hidden), self.to_clusters(hidden), units

    @torch.no_grad()
    def start_prototypes(self, waves: Tensor, units: Tensor) -> None:
        """Sets the prototypes to the mean states of each of the teacher's units, and the sharpness to their spread.

        Args:
            waves (`Tensor`): float32 (B, S).
            units (`Tensor`): int64 (B, T), -1 where a frame shall not count.
        """
        assert self.prototypes is not None and self.log_sharpness is not None
        hidden = self.encoder(waves).last_hidden_state.flatten(0, 1)
        hidden, units = hidden[units.flatten() >= 0], units.flatten()[units.flatten() >= 0]
        sums = torch.zeros_like(self.prototypes).index_add_(0, units, hidden)
        counts = torch.bincount(units, minlength=len(sums)).unsqueeze(1)
        self.prototypes.copy_(torch.where(counts > 0, sums / counts.clamp_min(1), hidden.mean(0)))
        # Half the mean squared distance from the own prototype, a dimension, is the scale of a Gaussian's exponent.
        spread = (hidden - self.prototypes[units]).square().mean()
        self.log_sharpness.copy_((0.1 / spread).log())


def unit_logits(hidden: Tensor, prototypes: Tensor, sharpness: Tensor) -> Tensor:
    """Negative scaled squared distances (up to a term common to all units): the nearest prototype wins.

    Args:
        hidden (`Tensor`): float32 (B, T, F).
        prototypes (`Tensor`): float32 (K, F).
        sharpness (`Tensor`): float32 scalar.
    """
    return sharpness * (hidden @ prototypes.T - 0.5 * prototypes.square().sum(-1))


def distillation_loss(
    predicted: Tensor,
    logits: Tensor,
    batch: Batch,
    *,
    cluster_weight: float,
    unit_scores: Tensor | None = None,
    unit_weight: float = 0.0,
    total_weight: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """L1 + (1 - cosine) + weighted cross-entropies, averaged with the frames' weights.

    Args:
        predicted (`Tensor`): floating (B, T, D), what the student says of the teacher's features.
        logits (`Tensor`): floating (B, T, C), of the clusters.
        batch ([`Batch`]): the targets.
        cluster_weight (`float`): of the cross-entropy on clusters.
        unit_scores (`Tensor`, *optional*): floating (B, T, K).
        unit_weight (`float`, *optional*, defaults to 0.0): of the cross-entropy on units.
        total_weight (`Tensor`, *optional*): of all frames of the step, of which `batch` is a share; the losses of all
            shares sum up to that of the whole. By default that of `batch`.

    Returns:
        The scalar loss and its parts (`l1`, `cosine`, `cross_entropy`, `accuracy`, with prototypes also
        `unit_cross_entropy` and `unit_accuracy`), all float32 without gradient.
    """
    weights = batch.weights / (batch.weights.sum() if total_weight is None else total_weight)
    predicted, logits = predicted.float(), logits.float()
    l1 = ((predicted - batch.targets).abs().mean(-1) * weights).sum()
    cosine = (nn.functional.cosine_similarity(predicted, batch.targets, dim=-1) * weights).sum()
    entropy = nn.functional.cross_entropy(logits.transpose(1, 2), batch.clusters, reduction="none")
    entropy = (entropy * weights).sum()
    correct = ((logits.argmax(-1) == batch.clusters).float() * weights).sum()
    parts = {"l1": l1, "cosine": cosine, "cross_entropy": entropy, "accuracy": correct}
    share = 1.0 if total_weight is None else weights.sum()
    loss = l1 + (share - cosine) + cluster_weight * entropy
    if unit_scores is not None:
        unit_entropy = nn.functional.cross_entropy(unit_scores.transpose(1, 2), batch.units, reduction="none")
        parts["unit_cross_entropy"] = (unit_entropy * weights).sum()
        parts["unit_accuracy"] = ((unit_scores.argmax(-1) == batch.units).float() * weights).sum()
        loss = loss + unit_weight * parts["unit_cross_entropy"]
    return loss, {name: part.detach() for name, part in parts.items()}


def take_over(student: Student, folder: str | Path) -> None:
    """Starts a student with the weights of an earlier run, or of a smaller encoder; in place.

    Args:
        student ([`Student`]): may have more layers.
        folder (`str` or `Path`): the output folder of an earlier distillation, or that of an encoder.

    Raises:
        ConfigurationError: it holds a weight that the student has not, or has in another shape; the message names
            it. Or its checkpoint is damaged.
    """
    folder = Path(folder)
    if (folder / CHECKPOINT_FILE).exists():
        weights = read_checkpoint(folder / CHECKPOINT_FILE)["student"]
    else:
        encoder = HubertModel.from_pretrained(folder, dtype=torch.float32)
        weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    own = student.state_dict()
    for name, value in weights.items():
        if name not in own or own[name].shape != value.shape:
            found = f"has shape {tuple(own[name].shape)}" if name in own else "does not exist"
            raise ConfigurationError(
                f"{folder} holds {name} of shape {tuple(value.shape)}; in the student it {found}",
                hint="give the student the same sizes, and at least as many layers",
            )
    student.load_state_dict({**own, **weights})


def export_encoder(encoder: HubertModel, folder: str | Path) -> Path:
    """Writes the encoder in float16 for `HubertModel.from_pretrained(folder, dtype=torch.float32)`.

    `preprocessor_config.json` beside it says that its input has zero mean and unit variance.
    """
    folder = Path(folder)
    state = {name: value.detach().half() for name, value in encoder.state_dict().items()}
    half = HubertModel(encoder.config).half()
    half.load_state_dict(state)
    half.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder
