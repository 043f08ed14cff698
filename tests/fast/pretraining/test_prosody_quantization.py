"""Prosody codes learnt from recordings."""

import numpy as np
import pytest

from speechprompt_hf.core.errors import AudioTooShortError, ConfigurationError
from speechprompt_hf.pretraining.prosody_quantization import fit_prosody_quantizer, prosody_vectors
from speechprompt_hf.processors import ProsodyQuantizer, SpeechUnitProcessor
from speechprompt_hf.processors.prosody import PitchSettings
from tests.fixtures.speech_encoders import unit_processor

RATE = 16000


def voice(hz, loud, seed, seconds=0.8):
    """One voice: harmonics of a slowly wandering pitch, loudness in steps, a little noise."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(hz * 2 ** (0.4 * np.sin(8 * time + seed))) / RATE
    wave = sum(np.sin(h * phase + h) / h for h in range(1, 12)) * np.where(time < seconds / 2, loud, 0.1 * loud)
    return (wave + 0.01 * loud * generator.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def processor():
    return unit_processor()


@pytest.fixture(scope="module")
def waves():
    return [voice(hz, loud, seed) for seed, (hz, loud) in enumerate([(100, 0.1), (220, 0.02), (160, 0.05)] * 6)]


def test_the_same_seed_gives_the_same_quantizer(processor, waves):
    one = fit_prosody_quantizer(waves, processor, num_units=8, seed=3)
    other = fit_prosody_quantizer(iter(waves), processor, num_units=8, seed=3)
    assert one.description == other.description
    assert one.num_units == 8
    assert fit_prosody_quantizer(waves, processor, num_units=8, seed=4).description != one.description


def test_codes_explain_the_prosody_of_other_recordings(processor, waves):
    quantizer = fit_prosody_quantizer(waves, processor, num_units=16)
    held_out = [voice(130, 0.07, 50), voice(250, 0.01, 51)]
    vectors = prosody_vectors(held_out, processor, quantizer) / quantizer.scales
    codes = quantizer.predict(vectors * quantizer.scales)
    assert len(np.unique(codes)) >= 6
    residual = np.square(vectors - quantizer.centroids[codes]).sum()
    assert residual < 0.35 * np.square(vectors - vectors.mean(0)).sum()


def test_its_processor_makes_those_codes(processor, waves, tmp_path):
    quantizer = fit_prosody_quantizer(waves, processor, num_units=8, pitch=PitchSettings(max_hz=400))
    both = SpeechUnitProcessor.from_unit_encoder(processor.unit_encoder, processor.tokenizer, quantizer)
    both.save_pretrained(tmp_path)
    loaded = SpeechUnitProcessor.from_pretrained(tmp_path)
    sequences = loaded.encode_units(waves[:2], sampling_rate=RATE)
    expected = quantizer.predict(prosody_vectors(waves[:2], processor, quantizer))
    assert np.array_equal(np.concatenate([sequence.prosody for sequence in sequences]), expected)


def test_too_little_speech_and_bad_recordings_are_errors(processor, waves):
    with pytest.raises(ConfigurationError, match="there are no recordings to learn prosody codes from"):
        fit_prosody_quantizer([], processor)
    with pytest.raises(ConfigurationError, match="k-means with 5000 clusters"):
        fit_prosody_quantizer(waves[:1], processor, num_units=5000)
    with pytest.raises(AudioTooShortError, match="item 1 has 10 samples"):
        fit_prosody_quantizer([waves[0], waves[0][:10]], processor)
    assert isinstance(fit_prosody_quantizer(waves[:4], processor, num_units=2), ProsodyQuantizer)
