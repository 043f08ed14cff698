"""The student with its training heads, its loss, and its export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import HubertModel

from .frames import Batch


class Student(nn.Module):
    """The encoder with the two heads that only training needs.

    Args:
        config (`HubertConfig`): of the encoder.
        width (`int`): D of the teacher.
        num_clusters (`int`): of the teacher's targets.
    """

    def __init__(self, config: Any, width: int, num_clusters: int) -> None:
        super().__init__()
        self.encoder = HubertModel(config)
        self.to_features = nn.Linear(config.hidden_size, width)
        self.to_clusters = nn.Linear(config.hidden_size, num_clusters)

    def forward(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Waves (B, S) to predicted features (B, T, D) and cluster logits (B, T, C)."""
        hidden = self.encoder(waves).last_hidden_state
        return self.to_features(hidden), self.to_clusters(hidden)


def distillation_loss(
    predicted: Tensor, logits: Tensor, batch: Batch, *, cluster_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """L1 + (1 - cosine) + weighted cross-entropy, averaged with the frames' weights.

    Returns:
        The scalar loss and its parts (`l1`, `cosine`, `cross_entropy`, `accuracy`), all float32 without gradient.
    """
    weights = batch.weights / batch.weights.sum()
    predicted, logits = predicted.float(), logits.float()
    l1 = ((predicted - batch.targets).abs().mean(-1) * weights).sum()
    cosine = (nn.functional.cosine_similarity(predicted, batch.targets, dim=-1) * weights).sum()
    entropy = nn.functional.cross_entropy(logits.transpose(1, 2), batch.clusters, reduction="none")
    entropy = (entropy * weights).sum()
    correct = ((logits.argmax(-1) == batch.clusters).float() * weights).sum()
    parts = {"l1": l1, "cosine": cosine, "cross_entropy": entropy, "accuracy": correct}
    return l1 + (1 - cosine) + cluster_weight * entropy, {name: part.detach() for name, part in parts.items()}


def export_encoder(encoder: HubertModel, folder: str | Path) -> Path:
    """Writes the encoder in float16 for `HubertModel.from_pretrained(folder, dtype=torch.float32)`."""
    folder = Path(folder)
    state = {name: value.detach().half() for name, value in encoder.state_dict().items()}
    half = HubertModel(encoder.config).half()
    half.load_state_dict(state)
    half.save_pretrained(folder)
    return folder
