"""Make hubert.safetensors, small random HuBERTs of fairseq and their features; needs fairseq."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from fairseq.data import Dictionary
from fairseq.models.hubert.hubert import HubertConfig, HubertModel
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
from safetensors.torch import save_file

SIZES = {
    "encoder_layers": 12,
    "encoder_embed_dim": 8,
    "encoder_ffn_embed_dim": 12,
    "encoder_attention_heads": 2,
    "conv_feature_layers": "[(6,10,5)] + [(6,3,2)] * 4 + [(6,2,2)] * 2",
    "conv_pos": 16,
    "conv_pos_groups": 2,
    "final_dim": 4,
}
# HuBERT base and mHuBERT; HuBERT large; mHuBERT of 25 frames a second.
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "large": {"extractor_mode": "layer_norm", "conv_bias": True, "layer_norm_first": True, "normalize": True},
    "25hz": {
        "conv_feature_layers": "[(6,10,5)] + [(6,3,2)] * 4 + [(6,2,2)] * 3",
        "conv_pos_batch_norm": True,
        "label_rate": 25.0,
    },
}
NUM_LABELS = 20
NUM_SAMPLES = 3600
"""11 frames, or 5 of 25 a second: odd numbers, which fairseq pads to even ones in its encoder."""


def make_model(seed: int = 0, **settings: Any) -> tuple[HubertModel, dict[str, Any]]:
    """A random HuBERT whose biases and norms are random too, and the `cfg` that fairseq would store with it.

    Args:
        seed (`int`, defaults to 0): of the weights.
        settings: of `HubertConfig`, over `SIZES`; `normalize` goes to the task.
    """
    task = {"data": "data", "labels": ["km"], "label_rate": 50.0, "normalize": settings.pop("normalize", False)}
    values = {**SIZES, "label_rate": task["label_rate"], **settings}
    task_config, config = HubertPretrainingConfig(**task), HubertConfig(**values)
    dictionary = Dictionary()
    for label in range(NUM_LABELS):
        dictionary.add_symbol(str(label))
    torch.manual_seed(seed)
    model = HubertModel(config, task_config, [dictionary]).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2.0)
            elif value.is_floating_point() and (value.ndim == 1 or "weight_g" in name):
                value.add_(0.2 * torch.randn_like(value))
    cfg = {
        "_name": None,
        "model": {**dataclasses.asdict(config), "_name": "hubert"},
        "task": {**dataclasses.asdict(task_config), "_name": "hubert_pretraining"},
    }
    return model, cfg


@torch.no_grad()
def features_of(model: HubertModel, waveform: torch.Tensor) -> torch.Tensor:
    """`(L, T, D)` features of all layers of a waveform `(S,)` as it is, by fairseq's own numbering from 1."""
    layers = range(1, len(model.encoder.layers) + 1)
    return torch.cat([model.extract_features(waveform[None], mask=False, output_layer=layer)[0] for layer in layers])


def main() -> None:
    """Write the file beside this one."""
    waveform = 0.1 * torch.randn(NUM_SAMPLES, generator=torch.Generator().manual_seed(1))
    tensors, metadata = {"waveform": waveform}, {}
    for variant, settings in VARIANTS.items():
        model, cfg = make_model(**settings)
        tensors |= {f"{variant}/model/{key}": value.contiguous() for key, value in model.state_dict().items()}
        tensors[f"{variant}/features"] = features_of(model, waveform).contiguous()
        metadata[variant] = json.dumps(cfg)
    save_file(tensors, Path(__file__).with_name("hubert.safetensors"), metadata)


if __name__ == "__main__":
    main()
