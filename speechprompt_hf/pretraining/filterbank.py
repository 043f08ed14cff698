"""A HuBERT front end that starts as a filterbank: an ordinary one does not learn in minutes of CPU time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import HubertConfig, HubertModel

from ..core.errors import ConfigurationError

NUM_BANDS = 80
_PHASES = 4
#: Taps of the second convolution over neighbouring frames: smooth, slope, curvature, and the first negated.
_TAPS = ((0.25, 0.5, 0.25), (-0.5, 0.0, 0.5), (-0.25, 0.5, -0.25), (-0.25, -0.5, -0.25))


def student_config(
    *, hidden_size: int = 256, num_hidden_layers: int = 4, num_attention_heads: int = 4, intermediate_size: int = 1024
) -> HubertConfig:
    """The small encoder: two convolutions, one frame per 320 samples, 720 samples seen by a frame.

    Frame j is centred on sample 320 j + 360. With the defaults it has 3.73 M parameters.
    """
    return HubertConfig(
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        intermediate_size=intermediate_size,
        conv_dim=[_PHASES * NUM_BANDS, hidden_size],
        conv_kernel=[400, 3],
        conv_stride=[160, 2],
        conv_bias=True,
        feat_extract_norm="layer",
        feat_proj_layer_norm=True,
        feat_extract_activation="gelu",
        hidden_act="gelu",
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=16,
        do_stable_layer_norm=False,
        hidden_dropout=0.0,
        activation_dropout=0.0,
        attention_dropout=0.0,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=False,
        mask_time_prob=0.0,
    )


def mel_filters(num_samples: int, *, rate_hz: int = 16_000, low_hz: float = 60.0, high_hz: float = 7600.0) -> Tensor:
    """Windowed cosines and sines at mel-spaced centres.

    The Hann windows are 100 to 400 samples long, longer where the bands are narrow.

    Returns:
        `Tensor`: float32 of shape (4 * NUM_BANDS, num_samples), unit norm; four rows a band: cos, -cos, sin, -sin.
    """
    low, high = (float(2595 * np.log10(1 + edge / 700)) for edge in (low_hz, high_hz))
    mel = np.linspace(low, high, NUM_BANDS)
    centres = 700 * (10 ** (mel / 2595) - 1)
    spacing = np.gradient(centres)
    rows = []
    for centre, width in zip(centres, spacing, strict=True):
        length = int(np.clip(2 * rate_hz / max(width, 1.0) / 2, 100, num_samples))
        window = np.zeros(num_samples)
        start = (num_samples - length) // 2
        window[start : start + length] = np.hanning(length + 2)[1:-1]
        phase = 2 * np.pi * centre * (np.arange(num_samples) - num_samples / 2) / rate_hz
        cosine, sine = window * np.cos(phase), window * np.sin(phase)
        cosine /= np.linalg.norm(cosine)
        sine /= np.linalg.norm(sine)
        rows += [cosine, -cosine, sine, -sine]
    return torch.tensor(np.stack(rows), dtype=torch.float32)


@torch.no_grad()
def initialise_filterbank(model: HubertModel, waves: Tensor, *, noise: float = 0.01, seed: int = 0) -> None:
    """Writes the filterbank into the two convolutions, in place.

    Args:
        model (`HubertModel`): built from [`student_config`].
        waves (`Tensor`): float32 of shape (B, S), speech at 16 kHz scaled to unit RMS; sets each band's gain.
        noise (`float`, *optional*, defaults to 0.01): standard deviation of the rest of the second convolution.
        seed (`int`, *optional*, defaults to 0): of that noise.

    Raises:
        ConfigurationError: the model's convolutions have other shapes.
    """
    layers: Any = model.feature_extractor.conv_layers
    if len(layers) != 2 or layers[0].conv.weight.shape[0] != _PHASES * NUM_BANDS or layers[1].conv.kernel_size != (3,):
        raise ConfigurationError(
            "The filterbank needs two convolutions, the first with 320 channels, the second with 3 taps.",
            hint="Build the model from student_config().",
        )
    first, second = layers
    filters = mel_filters(first.conv.kernel_size[0])
    responses = torch.nn.functional.conv1d(waves[:, None], filters[:, None], stride=first.conv.stride)
    bands = responses.reshape(len(waves), NUM_BANDS, _PHASES, -1)
    energy = (bands[:, :, 0] ** 2 + bands[:, :, 2] ** 2).clamp_min(1e-8)
    gain = 0.3 * torch.exp(-energy.log().mean(dim=(0, 2)) / 2)
    first.conv.weight.copy_((filters * gain.repeat_interleave(_PHASES)[:, None])[:, None])
    first.conv.bias.zero_()
    first.layer_norm.weight.fill_(2.0)
    first.layer_norm.bias.zero_()
    generator = torch.Generator().manual_seed(seed)
    weight = noise * torch.randn(second.conv.weight.shape, generator=generator)
    for output in range(weight.shape[0]):
        band, kind = output % NUM_BANDS, min(output // NUM_BANDS, len(_TAPS) - 1)
        weight[output, _PHASES * band : _PHASES * (band + 1)] += torch.tensor(_TAPS[kind])
    second.conv.weight.copy_(weight)
    second.conv.bias.zero_()
