"""Pitch of real speech against an independent, slow tracker; codes of real recordings in any batch."""

import io

import numpy as np
import pyarrow.parquet
import pytest
import soundfile

from speechprompt_hf import DEFAULT_BASE, SpeechUnitProcessor
from speechprompt_hf.core.audio_io import resample
from speechprompt_hf.pretraining.prosody_quantization import fit_prosody_quantizer
from speechprompt_hf.processors.prosody import prosody_frames

RATE = 16000
SETS = ("emodb", "kathleen_en", "coffee_orders", "lt_speech_commands", "fsdd")


def recordings(shared_data, name, count, seconds=2.0):
    column = pyarrow.parquet.read_table(shared_data / name / "test.parquet", columns=["audio"])["audio"]
    for index in np.linspace(0, len(column) - 1, count).astype(int):
        samples, rate = soundfile.read(io.BytesIO(column[int(index)].as_py()), dtype="float32")
        yield resample(samples, rate, RATE)[: round(seconds * RATE)]


def yin(frame, lowest=60.0, highest=500.0, threshold=0.15):
    """de Cheveigné & Kawahara (2002), steps 1 to 4, one lag at a time; 0 where no dip is deep enough."""
    longest = int(RATE / lowest)
    width = len(frame) - longest
    total, dips = 0.0, np.ones(longest + 1)
    for lag in range(1, longest + 1):
        difference = float(np.square(frame[:width] - frame[lag : lag + width]).sum())
        total += difference
        dips[lag] = difference * lag / total if total > 0 else 1.0
    for lag in range(int(RATE / highest), longest):
        if dips[lag] < threshold and dips[lag] <= dips[lag + 1]:
            return RATE / lag
    return 0.0


@pytest.mark.parametrize("name", SETS)
def test_pitch_agrees_with_yin(name, shared_data, capsys):
    gross = both = voiced = 0
    fine = []
    for wave in recordings(shared_data, name, 8):
        centres = 200 + 320 * np.arange((len(wave) - 400) // 320 + 1)
        frames = prosody_frames(wave, centres, RATE)
        padded = np.pad(wave.astype(np.float64), 1000)
        for centre, f0 in zip(centres, frames.f0, strict=True):
            reference = yin(padded[1000 + centre - 400 : 1000 + centre + 400])
            voiced += reference > 0
            if reference and f0:
                both += 1
                error = abs(f0 / reference - 1)
                gross += error > 0.2
                fine += [error] if error <= 0.2 else []
    with capsys.disabled():
        print(
            f"\n{name}: {both} frames voiced in both, {gross} differ by more than 20 %, median {np.median(fine):.4f}"
        )
    assert both > 40
    assert both > 0.95 * voiced  # YIN's threshold is strict: what it hears we hear too
    assert gross <= 0.03 * both
    assert np.median(fine) < 0.015  # YIN's lags are whole samples


def test_codes_of_real_recordings_are_the_same_in_any_batch(shared_data):
    base = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
    waves = [wave for name in SETS for wave in recordings(shared_data, name, 8, seconds=3.0)]
    quantizer = fit_prosody_quantizer(waves, base, num_units=32)
    processor = SpeechUnitProcessor.from_unit_encoder(base.unit_encoder, base.tokenizer, quantizer)
    together = processor.encode_units(waves, sampling_rate=RATE)
    order = np.random.default_rng(0).permutation(len(waves))
    shuffled = processor.encode_units([waves[index] for index in order], sampling_rate=RATE)
    for wave, sequence in zip(waves, together, strict=True):
        assert processor.encode_units([wave], sampling_rate=RATE) == [sequence]
    assert [together[index] for index in order] == shuffled
    assert len(np.unique(np.concatenate([sequence.prosody for sequence in together]))) == 32
