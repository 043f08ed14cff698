"""What make_hubert.py wrote: small HuBERTs of fairseq as checkpoints, and the features that fairseq makes of sound."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

GOLDEN = Path(__file__).with_name("hubert.safetensors")
VARIANTS = ("base", "large", "25hz")
NUM_LAYERS, WIDTH = 12, 8


@dataclass
class HubertCheckpoint:
    """A checkpoint that can be changed before it is written.

    Attributes:
        content: what fairseq saves.
        waveform: float32 `(S,)`, not scaled.
        features: float32 `(L, T, D)`, fairseq's features of it.
    """

    content: dict[str, Any]
    waveform: Tensor
    features: Tensor

    @property
    def state(self) -> dict[str, Tensor]:
        """Its weights."""
        return self.content["model"]

    def set(self, part: str = "model", **values: Any) -> None:
        """Change settings; `...` takes one away."""
        for key, value in values.items():
            if value is ...:
                del self.content["cfg"][part][key]
            else:
                self.content["cfg"][part][key] = value

    def write(self, path: Path, **options: Any) -> Path:
        """Save it as fairseq does."""
        torch.save(self.content, path, **options)
        return path


def hubert_checkpoint(variant: str = "base", num_layers: int = NUM_LAYERS) -> HubertCheckpoint:
    """The checkpoint of a variant, one of `VARIANTS`, or of its first layers."""
    with safe_open(GOLDEN, "pt") as file:
        names = [name for name in file.keys() if name.startswith(f"{variant}/model/")]  # noqa: SIM118 - no mapping
        state = {name.removeprefix(f"{variant}/model/"): file.get_tensor(name) for name in names}
        waveform, features = file.get_tensor("waveform"), file.get_tensor(f"{variant}/features")
        cfg = json.loads(file.metadata()[variant])
    cfg["model"]["encoder_layers"] = num_layers
    above = tuple(f"encoder.layers.{layer}." for layer in range(num_layers, NUM_LAYERS))
    state = {name: value for name, value in state.items() if not name.startswith(above)}
    content = {
        "args": None,
        "cfg": cfg,
        "model": state,
        "criterion": None,
        "optimizer_history": [{"criterion_name": "HubertCriterion", "num_updates": 400000}],
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": 600}, "val_loss": 2.3},
        "last_optimizer_state": {"state": {0: {"step": 3, "exp_avg": torch.zeros(3)}}},
    }
    return HubertCheckpoint(content, waveform, features[:num_layers])
