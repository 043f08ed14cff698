"""Hidden states of an encoder, one recording at a time, for fitting and judging quantizers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from transformers import HubertModel

from .augmentation import AugmentationConfig, augment, unit_variance


@torch.no_grad()
def hidden_states(
    encoder: HubertModel, waves: Iterable[np.ndarray], layers: Sequence[int], *, min_samples: int = 720
) -> list[list[np.ndarray]]:
    """Features of several layers at once.

    Args:
        encoder (`HubertModel`): in float32, with an input of zero mean and unit variance.
        waves (`Iterable[np.ndarray]`): float32 mono at the encoder's rate; shorter ones are padded with zeros to
            `min_samples`.
        layers (`Sequence[int]`): indices into `hidden_states` (0 is the input of the first layer).
        min_samples (`int`, *optional*, defaults to 720): samples of one frame.

    Returns:
        `list[list[np.ndarray]]`: for each layer, for each recording, float32 of shape (T, F).
    """
    encoder.eval()
    collected: list[list[np.ndarray]] = [[] for _ in layers]
    for wave in waves:
        if len(wave) < min_samples:
            wave = np.pad(wave, (0, min_samples - len(wave)))
        output = encoder(unit_variance(torch.from_numpy(wave)[None]), output_hidden_states=True)
        for store, layer in zip(collected, layers, strict=True):
            store.append(output.hidden_states[layer][0].numpy())
    return collected


def varied_clips(
    clips: Sequence[np.ndarray],
    generator: np.random.Generator,
    *,
    num_clips: int,
    seconds: tuple[float, float] = (0.3, 3.0),
    clean_share: float = 0.4,
    rate_hz: int = 16_000,
) -> list[np.ndarray]:
    """Pieces of recordings as users bring them: short ones, band-limited ones, noisy ones.

    Args:
        clips (`Sequence[np.ndarray]`): float32 mono waves.
        generator (`np.random.Generator`): source of all draws.
        num_clips (`int`): pieces to draw.
        seconds (`tuple[float, float]`, *optional*, defaults to `(0.3, 3.0)`): lengths, drawn on a logarithmic scale;
            shorter recordings are taken whole.
        clean_share (`float`, *optional*, defaults to 0.4): pieces left as they are; half of the others lose
            what lies above 4 kHz.
        rate_hz (`int`, *optional*, defaults to 16000): sampling rate.
    """
    mild = AugmentationConfig(
        equaliser_decibels=3.0,
        reverberation_probability=0.2,
        low_pass_probability=0.5,
        noise_probability=0.5,
        noise_decibels=(15.0, 40.0),
        level_decibels=0.0,
    )
    pieces = []
    for index in generator.integers(0, len(clips), size=num_clips):
        clip = clips[index]
        length = int(rate_hz * np.exp(generator.uniform(*np.log(seconds))))
        start = int(generator.integers(0, max(1, len(clip) - length)))
        piece = clip[start : start + length]
        if generator.random() >= clean_share:
            piece = augment(torch.from_numpy(np.ascontiguousarray(piece))[None], generator, mild)[0].numpy()
        pieces.append(piece)
    return pieces
