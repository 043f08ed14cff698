"""Frames lie on their samples; recordings that cannot be used are left out; segments are drawn from everywhere."""

import io

import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset

from speechprompt_hf import DEFAULT_BASE, SpeechUnitProcessor
from speechprompt_hf.core.errors import ConfigurationError, DatasetError
from speechprompt_hf.vocoding.aligned_speech import AlignedSpeech, align_speech
from tests.fixtures.aligned_speech import HOP, tones, write_tones

EDGE, FRAME = 200, 320  # a frame of the packaged encoder sees 720 samples; these are the 320 in its middle


def flac(samples, rate=16000):
    file = io.BytesIO()
    soundfile.write(file, samples.astype(np.float32), rate, format="WAV", subtype="FLOAT")
    return {"bytes": file.getvalue(), "path": None}


@pytest.fixture(scope="module")
def processor():
    return SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)


@pytest.fixture(scope="module")
def waves():
    generator = np.random.default_rng(0)
    return [0.1 * generator.standard_normal(count) for count in (16000, 720, 9000)]


@pytest.fixture(scope="module")
def rows(waves):
    broken = [{"bytes": b"no sound", "path": None}, flac(np.zeros(100)), flac(np.full(4000, np.nan))]
    audio = [flac(waves[0]), *broken, flac(waves[1]), flac(np.repeat(waves[2], 1)[::2], 8000)]
    items = ["first", "broken", "short", "nan", "tiny", "half rate"]
    return Dataset.from_dict({"audio": audio, "item": items, "speaker": ["b", "b", "a", "a", "a", "c"]})


def aligned(rows, processor, folder, cache, **options):
    return align_speech(rows, processor, folder, cache_dir=cache, show_progress=False, **options)


def test_frames_lie_on_their_samples(rows, processor, waves, tmp_path):
    skipped = {}
    speech = aligned(rows, processor, tmp_path / "speech", tmp_path, on_skip=skipped.__setitem__)
    assert {name: text.split(" (")[0].split(":")[0] for name, text in skipped.items()}.keys() == {
        "broken",
        "short",
        "nan",
    }
    assert len(speech) == 3 and speech.num_frames.tolist() == [48, 1, 26] and speech.speakers == []
    assert speech.seconds == pytest.approx(75 * 0.02)
    frames, wave, voice = speech.recording(0)
    expected = processor.encode_units([waves[0].astype(np.float32)], sampling_rate=16000)[0].frames
    assert np.array_equal(frames, expected) and voice == 0
    np.testing.assert_allclose(wave, waves[0][EDGE : EDGE + 48 * FRAME], atol=1 / 32768)
    assert np.allclose(speech.recording(1)[1], waves[1][EDGE : EDGE + FRAME], atol=1 / 32768)


def test_the_same_speech_is_not_written_again(rows, processor, tmp_path):
    folder = tmp_path / "speech"
    first = aligned(rows, processor, folder, tmp_path)
    written = (folder / "samples.i16").stat().st_mtime_ns
    assert aligned(rows, processor, folder, tmp_path).digest == first.digest
    assert (folder / "samples.i16").stat().st_mtime_ns == written
    other = aligned(rows.select([0, 4]), processor, folder, tmp_path)
    assert len(other) == 2 and other.digest != first.digest


def test_voices_have_names(rows, processor, tmp_path):
    speech = aligned(rows, processor, tmp_path / "train", tmp_path, speaker_column="speaker")
    assert speech.speakers == ["a", "b", "c"] and [speech.recording(row)[2] for row in range(3)] == [1, 0, 2]
    skipped = {}
    options = {"speaker_column": "speaker", "on_skip": skipped.__setitem__}
    known = aligned(rows, processor, tmp_path / "val", tmp_path, speakers=["c"], **options)
    assert len(known) == 1 and known.recording(0)[2] == 0
    assert skipped.keys() == {"first", "broken", "short", "nan", "tiny"}
    assert skipped["first"] == "its voice 'b' is not one of c"
    with pytest.raises(DatasetError, match="not one recording has a known voice"):
        aligned(rows, processor, tmp_path / "val", tmp_path, speakers=["d"], **options)


def test_no_other_column_is_read(rows, processor, tmp_path):
    class Unreadable(type(rows)):
        def __getitem__(self, key):
            assert key != self.column_names[0], "a whole column of sound"
            return super().__getitem__(key)

    rows = rows.select([0, 4])
    rows.__class__ = Unreadable
    assert len(aligned(rows, processor, tmp_path / "speech", tmp_path)) == 2


def test_recordings_longer_than_a_chunk_are_left_out(rows, processor, tmp_path, monkeypatch):
    from dataclasses import replace

    description = replace(processor.unit_encoder.description, chunk_samples=8000)
    monkeypatch.setattr(processor.unit_encoder, "description", description)
    skipped = {}
    speech = aligned(rows.select([0, 4]), processor, tmp_path / "speech", tmp_path, on_skip=skipped.__setitem__)
    assert len(speech) == 1 and "longer than the encoder's chunk of 25 frames" in skipped["first"]
    unnamed = rows.select([4, 0]).remove_columns("item")
    aligned(unnamed, processor, tmp_path / "speech", tmp_path, on_skip=skipped.__setitem__)
    assert skipped.keys() == {"first", "row 1"}


def test_unusable_corpora_are_refused(rows, processor, tmp_path):
    with pytest.raises(DatasetError, match="holds no recordings"):
        aligned(rows.remove_columns("audio"), processor, tmp_path / "speech", tmp_path)
    with pytest.raises(DatasetError, match="there is no column 'voice', but audio, item, speaker"):
        aligned(rows, processor, tmp_path / "speech", tmp_path, speaker_column="voice")
    with pytest.raises(DatasetError, match="not one of 3 recordings can be used"):
        aligned(rows.select([1, 2, 3]), processor, tmp_path / "speech", tmp_path)


def test_segments_hold_units_and_their_sound(tmp_path):
    speech = write_tones(tmp_path / "speech", lengths=(30, 45, 7, 60), speakers=("x", "y"))
    batch = speech.draw(np.random.default_rng(0), batch_size=64, num_frames=12)
    assert batch.frames.shape == (64, 12) and batch.waveform.shape == (64, 12 * HOP)
    assert set(batch.num_frames.tolist()) == {7, 12}, "a recording shorter than a segment is taken whole"
    seen = set()
    for row in range(64):
        count = int(batch.num_frames[row])
        units = batch.frames[row, :count].numpy()
        assert not batch.waveform[row, count * HOP :].any() and not batch.frames[row, count:].any()
        # The pitch of each frame is that of its unit, whatever the phase.
        for frame, unit in enumerate(units):
            spectrum = np.abs(np.fft.rfft(batch.waveform[row, frame * HOP : (frame + 1) * HOP].numpy()))
            assert (spectrum.max() < 0.1) if unit == 0 else (spectrum.argmax() == unit + 1)
        recording = next(
            index
            for index in range(4)
            if _contains(speech.recording(index)[0], units) and _owns(speech, index, batch, row)
        )
        seen.add(recording)
        mask = batch.durations[row] > 0
        merged, durations = batch.units[row][mask].numpy(), batch.durations[row][mask].numpy()
        assert np.array_equal(np.repeat(merged, durations), speech.recording(recording)[0])
    assert len(seen) == 4


def _contains(whole, part):
    return any(np.array_equal(whole[start : start + len(part)], part) for start in range(len(whole) - len(part) + 1))


def _owns(speech, index, batch, row):
    frames, _, voice = speech.recording(index)
    mask = batch.durations[row] > 0
    return voice == int(batch.speakers[row]) and np.array_equal(
        np.repeat(batch.units[row][mask].numpy(), batch.durations[row][mask].numpy()), frames
    )


def test_draws_come_from_the_generator_alone(tmp_path):
    speech = write_tones(tmp_path / "speech")
    one, same, other = (speech.draw(np.random.default_rng(seed), batch_size=5, num_frames=9) for seed in (1, 1, 2))
    assert torch.equal(one.waveform, same.waveform) and torch.equal(one.frames, same.frames)
    assert not torch.equal(one.waveform, other.waveform)


def test_damaged_speech_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="holds no aligned speech"):
        AlignedSpeech(tmp_path)
    write_tones(tmp_path / "speech")
    (tmp_path / "speech" / "samples.i16").write_bytes(b"12345678")
    with pytest.raises(ConfigurationError, match="is damaged: its parts do not fit each other"):
        AlignedSpeech(tmp_path / "speech")
    np.savez(tmp_path / "speech" / "index.npz", frames=np.array([object()], dtype=object))
    with pytest.raises(ConfigurationError, match="holds no aligned speech"):
        AlignedSpeech(tmp_path / "speech")


def test_the_tones_are_what_they_say():
    assert np.abs(np.fft.rfft(tones(np.array([2, 2]))))[6] > 4 and not tones(np.zeros(3, dtype=int)).any()
