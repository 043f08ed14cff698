"""Losses of a vocoder and its discriminators: pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .discriminators import Verdict

__all__ = ["adversarial_loss", "discriminator_loss", "duration_loss", "feature_loss", "mel_loss"]


def discriminator_loss(real: Sequence[Verdict], made: Sequence[Verdict]) -> Tensor:
    """Sum over discriminators of the mean of `(D(real) - 1)² + D(made)²`.

    Source:
        HiFi-GAN (Kong et al. 2020), equation 1.
    """
    terms = [
        (scores - 1).square().mean() + others.square().mean()
        for (scores, _), (others, _) in zip(real, made, strict=True)
    ]
    return torch.stack(terms).sum()


def adversarial_loss(made: Sequence[Verdict]) -> Tensor:
    """Sum over discriminators of the mean of `(D(made) - 1)²`.

    Source:
        HiFi-GAN (Kong et al. 2020), equation 2.
    """
    return torch.stack([(scores - 1).square().mean() for scores, _ in made]).sum()


def feature_loss(real: Sequence[Verdict], made: Sequence[Verdict]) -> Tensor:
    """Sum over discriminators and their layers of the mean absolute difference of features.

    Source:
        HiFi-GAN (Kong et al. 2020), equation 4; the real features carry no gradient.
    """
    terms = [
        F.l1_loss(other, one.detach())
        for (_, features), (_, others) in zip(real, made, strict=True)
        for one, other in zip(features, others, strict=True)
    ]
    return torch.stack(terms).sum()


def mel_loss(real: Sequence[Tensor], made: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of log mel spectra, averaged over their resolutions.

    Source:
        HiFi-GAN (Kong et al. 2020), equation 3, for one resolution.
    """
    return torch.stack([F.l1_loss(other, one) for one, other in zip(real, made, strict=True)]).mean()


def duration_loss(logarithms: Tensor, durations: Tensor, mask: Tensor, total: float | Tensor | None = None) -> Tensor:
    """Mean squared error of the logarithm of durations plus one.

    Args:
        logarithms (`Tensor` of shape `(B, U)`): predicted; anything where the mask is `False`.
        durations (`LongTensor` of shape `(B, U)`): in frames.
        mask (`BoolTensor` of shape `(B, U)`): `True` for real units.
        total (`float | Tensor`, *optional*): what to divide the sum by; the number of real units by default.

    Source:
        fairseq `examples/speech_to_speech`, training of the code vocoder's duration predictor; FastSpeech 2.
    """
    errors = (logarithms.float() - torch.log1p(durations.float())).square().masked_fill(~mask, 0.0)
    return errors.sum() / (mask.sum() if total is None else total)
