"""Losses against numbers worked out by hand."""

import math

import pytest
import torch

from speechprompt_hf.vocoding.losses import (
    adversarial_loss,
    discriminator_loss,
    duration_loss,
    feature_loss,
    mel_loss,
)


def verdict(scores, *features):
    return torch.tensor([scores]), [torch.tensor(each) for each in features]


def test_discriminators_want_one_for_real_and_zero_for_made_speech():
    real, made = [verdict([1.0, 0.5]), verdict([2.0])], [verdict([0.0, 0.5]), verdict([-1.0])]
    # (0 + 0.25) / 2 + (0 + 0.25) / 2, and 1 + 1
    assert float(discriminator_loss(real, made)) == pytest.approx(0.25 + 2)
    assert float(discriminator_loss([verdict([1.0])], [verdict([0.0])])) == 0


def test_the_vocoder_wants_one_for_made_speech():
    assert float(adversarial_loss([verdict([0.0, 0.5]), verdict([-1.0])])) == pytest.approx(0.625 + 4)
    assert float(adversarial_loss([verdict([1.0, 1.0])])) == 0


def test_features_differ_by_their_mean_absolute_difference():
    real = [verdict([0.0], [1.0, 2.0], [5.0]), verdict([0.0], [0.0])]
    made = [verdict([9.0], [2.0, 0.0], [5.5]), verdict([9.0], [-3.0])]
    assert float(feature_loss(real, made)) == pytest.approx(1.5 + 0.5 + 3)


def test_real_features_carry_no_gradient():
    real, made = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    feature_loss([(real, [real])], [(made, [made])]).backward()
    assert real.grad is None and made.grad.tolist() == pytest.approx([-1 / 3] * 3)


def test_mel_loss_is_a_mean_over_resolutions():
    real = [torch.zeros(1, 2, 2), torch.zeros(1, 4, 1)]
    made = [torch.full((1, 2, 2), 2.0), torch.tensor([[[1.0], [-1.0], [0.0], [0.0]]])]
    assert float(mel_loss(real, made)) == pytest.approx((2 + 0.5) / 2)


def test_durations_are_compared_as_logarithms_without_padding():
    durations = torch.tensor([[1, 3], [2, 0]])
    logarithms = torch.tensor([[math.log(2), math.log(4) + 1], [math.log(3) - 2, float("inf")]])
    mask = durations > 0
    assert float(duration_loss(logarithms, durations, mask)) == pytest.approx((0 + 1 + 4) / 3)
    assert float(duration_loss(logarithms, durations, mask, 10)) == pytest.approx(0.5)
    shares = [float(duration_loss(logarithms[row, None], durations[row, None], mask[row, None], 3)) for row in (0, 1)]
    assert sum(shares) == pytest.approx(5 / 3)
