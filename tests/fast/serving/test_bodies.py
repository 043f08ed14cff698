"""What strangers send: bodies, parameters and files that lie. Nothing costs more than its limits."""

import base64
import io
import json
import tracemalloc

import numpy as np
import pytest
import soundfile

from speechprompt_hf.core.audio_io import read_audio
from speechprompt_hf.core.errors import AudioError, AudioTooLongError, ConfigurationError, SamplingRateError
from speechprompt_hf.processors import SpeechUnitFeatureExtractor
from speechprompt_hf.serving import ServingLimits
from speechprompt_hf.serving.bodies import Parameters, decode_recording, read_body
from speechprompt_hf.serving.refusals import RequestRefusedError, refusal_of

LIMITS = ServingLimits(max_bytes=200_000, max_seconds=2.0)
LABELS, TEXTS = "audio-classification", "automatic-speech-recognition"
EXTRACTOR = SpeechUnitFeatureExtractor(sampling_rate=16000, min_samples=400)
WAVE = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)


def encoded(wave, rate=16000, **options):
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, **{"format": "FLAC", **options})
    return stream.getvalue()


def document(**values):
    return json.dumps(values).encode()


def in_base64(content):
    return base64.b64encode(content).decode()


def test_a_file_is_taken_as_it_is_and_from_json():
    assert read_body(b"abc", "audio/flac", LABELS, LIMITS) == (b"abc", Parameters())
    assert read_body(b"abc", "", LABELS, LIMITS) == (b"abc", Parameters())
    body = document(inputs=in_base64(b"abc"), parameters={"top_k": 2, "function_to_apply": "none"})
    expected = Parameters(top_k=2, function_to_apply="none")
    assert read_body(body, "Application/JSON; charset=utf-8", LABELS, LIMITS) == (b"abc", expected)
    body = document(inputs=in_base64(b"abc"), parameters={"num_beams": 4})
    assert read_body(body, "application/json", TEXTS, LIMITS) == (b"abc", Parameters(num_beams=4))
    body = document(inputs=in_base64(b"abc"), parameters={"top_k": None})
    assert read_body(body, "application/json", LABELS, LIMITS) == (b"abc", Parameters())


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "no JSON document"),
        (b"\xff\xfe{}", 400, "no JSON document"),
        (b"[" * 200_000, 400, "no JSON document"),
        (b"[1]", 400, "no JSON object"),
        (document(), 400, "'inputs' must be a sound file in base64"),
        (document(inputs=3), 400, "'inputs' must be"),
        (document(inputs="a.wav?"), 400, "'inputs' is no base64"),
        (document(inputs="ü"), 400, "'inputs' is no base64"),
        (document(inputs=""), 400, "its body is empty"),
        (document(inputs="YWJj", wait=True), 400, "the body has 'wait'"),
        (document(inputs="YWJj", parameters=[1]), 400, "'parameters' must be a JSON object"),
        (document(inputs="YWJj", parameters={"seed": 1}), 400, "the parameter 'seed' is not known"),
        (document(inputs="YWJj", parameters={"num_beams": 2}), 400, "known are top_k, function_to_apply"),
        (document(inputs="YWJj", parameters={"top_k": 0}), 400, "top_k is 0; it must be a whole number from 1"),
        (document(inputs="YWJj", parameters={"top_k": True}), 400, "top_k is True"),
        (document(inputs="YWJj", parameters={"top_k": "3"}), 400, "top_k is '3'"),
        (document(inputs="YWJj", parameters={"function_to_apply": ["a"]}), 400, "function_to_apply is"),
        (document(inputs=in_base64(bytes(200_001))), 413, "the file has 200001 bytes, 200000 at most"),
    ],
)
def test_bodies_of_another_form_are_named(body, status, message):
    with pytest.raises(RequestRefusedError, match=message) as refused:
        read_body(body, "application/json", LABELS, LIMITS)
    assert refused.value.status == status


def test_beams_are_limited():
    body = document(inputs="YWJj", parameters={"num_beams": 9})
    with pytest.raises(RequestRefusedError, match="num_beams is 9; it must be a whole number from 1 to 8"):
        read_body(body, "application/json", TEXTS, LIMITS)


@pytest.mark.parametrize("options", [{"format": "WAV"}, {"format": "FLAC"}, {"format": "OGG"}, {"format": "MP3"}])
@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (8000, 1), (44100, 2)])
def test_usual_files_are_decoded(options, rate, channels):
    times = np.arange(rate) / rate
    wave = 0.5 * np.sin(2 * np.pi * 440 * times)[:, None].repeat(channels, 1)
    samples = decode_recording(encoded(wave.astype(np.float32), rate, **options), EXTRACTOR, LIMITS)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert abs(len(samples) - 16000) < 2500  # mp3 pads
    spectrum = np.abs(np.fft.rfft(samples[:16000], 16000))
    assert abs(int(spectrum.argmax()) - 440) <= 1


def with_claimed_samples(content, count):
    changed = bytearray(content)
    changed[21] = (changed[21] & 0xF0) | (count >> 32)
    changed[22:26] = (count & 0xFFFF_FFFF).to_bytes(4, "big")
    return bytes(changed)


def not_finite():
    wave = WAVE.copy()
    wave[100] = np.inf
    return wave


FLAC, WAV = encoded(WAVE), encoded(WAVE, format="WAV")


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"this is no sound", 422, "no wav, flac, ogg, opus or mp3"),
        (b"R", 422, "no wav, flac"),
        (encoded(WAVE, format="AIFF"), 422, "no wav, flac"),
        (b"RIFF\x10\0\0\0AVI ", 422, "no wav, flac"),
        (FLAC[:100], 422, "cannot be read as sound|truncated"),
        (FLAC[: len(FLAC) // 2], 422, "cannot be read as sound|truncated"),
        (WAV[: len(WAV) // 2], 422, "truncated"),
        (b"ID3" + bytes(500), 422, "cannot be read as sound"),
        (b"OggS" + bytes(500), 422, "cannot be read as sound|truncated"),
        (with_claimed_samples(FLAC, 12 * 3600 * 16000), 413, "lasts 43200.0 s .*at most 2 s are read"),
        (with_claimed_samples(FLAC, 2**36 - 1), 413, "at most 2 s are read"),
        (encoded(np.zeros(50_000, np.float32)), 413, "lasts 3.1 s"),
        (encoded(not_finite(), format="WAV", subtype="FLOAT"), 422, "sample 100 of the recording is inf"),
        (encoded(WAVE[:300]), 422, "300 samples, fewer than the 400"),
        (encoded(WAVE[:0], format="WAV"), 422, "0 samples"),
        (encoded(WAVE, 500_000, format="WAV"), 422, "sampling rate of 500000 Hz"),
        (encoded(WAVE[:2], 10, format="WAV"), 422, "sampling rate of 10 Hz"),
    ],
)
def test_files_that_cannot_be_used_are_refused_in_one_sentence(content, status, message):
    with pytest.raises((RequestRefusedError, AudioError), match=message) as refused:
        decode_recording(content, EXTRACTOR, LIMITS)
    refusal = refusal_of(refused.value)
    assert refusal.status == status
    assert "\n" not in refusal.sentence and len(refusal.sentence) < 300


def test_a_small_file_of_many_hours_costs_no_memory():
    # Constant blocks of flac: 40 minutes in some kB. Without a length in the header only decoding finds out.
    content = with_claimed_samples(encoded(np.zeros(40 * 60 * 16000, np.float32)), 0)
    assert len(content) < 250_000
    tracemalloc.start()
    with pytest.raises(AudioTooLongError, match="lasts more than 2 s"):
        read_audio(content, max_seconds=2.0)
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert highest < 20e6  # all of it would be 154 MB


def test_many_channels_are_decoded_in_small_blocks():
    wave = np.tile(WAVE[:8000, None], (1, 200))
    content = encoded(wave, format="WAV", subtype="PCM_U8")
    tracemalloc.start()
    samples, _ = read_audio(content, max_seconds=2.0)
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.abs(samples - WAVE[:8000]).max() < 0.02
    assert highest < 8e6


def test_limited_reading_equals_unlimited():
    stereo = np.random.default_rng(1).normal(0, 0.1, (1_200_000, 2)).astype(np.float32)
    content = encoded(stereo, 44100)
    limited, unlimited = read_audio(content, max_seconds=60.0), read_audio(content)
    assert limited[1] == unlimited[1] and np.array_equal(limited[0], unlimited[0])
    with pytest.raises(AudioTooLongError, match=r"the given bytes lasts 27\.2 s"):
        read_audio(content, max_seconds=27.0)
    with pytest.raises(SamplingRateError):
        read_audio(encoded(WAVE, 200_001, format="WAV"), max_seconds=60)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_bytes": 0}, "max_bytes is 0"),
        ({"max_seconds": float("inf")}, "max_seconds is inf"),
        ({"max_queue": True}, "max_queue is True"),
        ({"max_queue": 2.5}, "max_queue is 2.5"),
        ({"timeout_s": -1}, "timeout_s is -1"),
        ({"max_bytes": 2**30}, "one request may have"),
    ],
)
def test_limits_that_cannot_be(options, message):
    with pytest.raises(ConfigurationError, match=message):
        ServingLimits(**options)
