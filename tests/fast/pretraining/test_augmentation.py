import numpy as np
import pytest
import torch

from speechprompt_hf.pretraining.augmentation import AugmentationConfig, augment, change_speed, unit_variance

OFF = dict(equaliser_probability=0.0, reverberation_probability=0.0, low_pass_probability=0.0, noise_probability=0.0)


def waves(num_rows=3, num_samples=8000):
    return torch.from_numpy(np.random.default_rng(0).standard_normal((num_rows, num_samples), dtype=np.float32))


def test_without_disturbances_only_level_and_mean_change():
    config = AugmentationConfig(**OFF, level_decibels=0.0)
    result = augment(3 * waves() + 1, np.random.default_rng(0), config)
    torch.testing.assert_close(result, unit_variance(waves()), atol=2e-4, rtol=0)


def test_same_seed_same_result_and_rows_differ():
    same = waves(1).repeat(2, 1)
    one, two = (augment(same, np.random.default_rng(4)) for _ in range(2))
    torch.testing.assert_close(one, two, atol=0, rtol=0)
    assert (one[0] - one[1]).abs().max() > 0.1


def test_low_pass_empties_the_upper_band():
    config = AugmentationConfig(**{**OFF, "low_pass_probability": 1.0}, level_decibels=0.0)
    spectrum = torch.fft.rfft(augment(waves(), np.random.default_rng(0), config)).abs().square().mean(0)
    frequencies = torch.linspace(0, 8000, len(spectrum))
    assert spectrum[frequencies > 5000].mean() < 1e-4 * spectrum[frequencies < 3000].mean()


def test_noise_has_the_drawn_ratio():
    config = AugmentationConfig(**{**OFF, "noise_probability": 1.0}, noise_decibels=(10.0, 10.0), level_decibels=0.0)
    clean = unit_variance(waves())
    noisy = augment(clean, np.random.default_rng(0), config)
    scale = (noisy * clean).mean(-1, keepdim=True)  # the noise is independent of the signal
    noise_power = (noisy / scale - clean).square().mean(-1)
    torch.testing.assert_close(noise_power, torch.full((3,), 0.1), atol=0.02, rtol=0)


def test_a_silent_row_stays_finite():
    assert torch.isfinite(augment(torch.zeros(2, 4000), np.random.default_rng(0))).all()


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_change_speed_moves_length_and_pitch(speed):
    tone = np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000).astype(np.float32)
    result = change_speed(tone, speed)
    assert abs(len(result) - 16_000 / speed) < 4
    peak = np.argmax(np.abs(np.fft.rfft(result))) * 16_000 / len(result)
    assert abs(peak - 500 * speed) < 3
