"""Discriminators have the original's shapes, and every sample reaches a score."""

import pytest
import torch

from speechprompt_hf.vocoding.discriminators import (
    Discriminators,
    PeriodDiscriminator,
    ScaleDiscriminator,
    SpectrumDiscriminator,
)


def shapes(part, samples):
    with torch.no_grad():
        scores, features = part(torch.randn(2, samples))
    return tuple(scores.shape), [tuple(each.shape) for each in features]


def test_a_period_discriminator_has_the_originals_shapes():
    # HiFi-GAN: 1200 samples are 400 rows of 3; strides of 3 four times: 134, 45, 15, 5.
    scores, features = shapes(PeriodDiscriminator(3), 1200)
    rows = (134, 45, 15, 5, 5)
    channels = (32, 128, 512, 1024, 1024)
    assert features == [*((2, count, row, 3) for count, row in zip(channels, rows, strict=True)), (2, 1, 5, 3)]
    assert scores == (2, 15)


def test_a_scale_discriminator_has_the_originals_shapes():
    scores, features = shapes(ScaleDiscriminator(0), 1200)
    lengths = (1200, 600, 300, 75, 19, 19, 19, 19)
    channels = (128, 128, 256, 512, 1024, 1024, 1024, 1)
    assert features == [(2, count, length) for count, length in zip(channels, lengths, strict=True)]
    assert scores == (2, 19)
    assert shapes(ScaleDiscriminator(2), 1200)[1][0] == (2, 128, 301)


def test_the_originals_have_the_papers_number_of_weights():
    """HiFi-GAN's published discriminators have 70.7 million, with one gain a channel of weight norm."""
    with torch.device("meta"):
        judges = Discriminators()
    counts = {type(part).__name__: 0 for part in judges.parts}
    for part in judges.parts:
        counts[type(part).__name__] += sum(
            parameter.numel() for name, parameter in part.named_parameters() if "original0" not in name
        )
    assert counts == {"PeriodDiscriminator": 41_092_165, "ScaleDiscriminator": 29_610_627}


def test_a_discriminator_of_spectra_reads_time_by_frequency():
    scores, features = shapes(SpectrumDiscriminator(64, width=0.25), 640)
    assert features[0] == (2, 8, 40, 33) and features[3] == (2, 8, 40, 5) and scores == (2, 40 * 5)


@pytest.mark.parametrize("width", [0.01, 0.125, 0.3])
@pytest.mark.parametrize("samples", [97, 640])
def test_every_width_reads_every_length(width, samples):
    judges = Discriminators(windows=(64,), width=width)
    waveform = torch.randn(2, samples, requires_grad=True)
    verdicts = judges(waveform)
    assert len(verdicts) == 9 and all(len(features) in (6, 8) for _, features in verdicts)
    for scores, _ in verdicts:
        assert scores.shape[0] == 2 and scores.isfinite().all()
    sum(scores.square().sum() for scores, _ in verdicts).backward()
    assert waveform.grad.isfinite().all() and (waveform.grad != 0).all()
    assert all(parameter.grad is not None for parameter in judges.parameters())


def test_rows_do_not_see_each_other():
    judges = Discriminators(windows=(64,), width=0.05).eval()
    waveform = torch.randn(3, 400)
    with torch.no_grad():
        together, alone = judges(waveform), judges(waveform[1:2])
    for (scores, features), (one, parts) in zip(together, alone, strict=True):
        torch.testing.assert_close(scores[1:2], one, atol=1e-5, rtol=1e-4)
        for feature, part in zip(features, parts, strict=True):
            torch.testing.assert_close(feature[1:2], part, atol=1e-5, rtol=1e-4)
