import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from datasets import Dataset

from speechprompt_hf.core.errors import AudioDecodeError, ConfigurationError, DatasetError, FingerprintMismatchError
from speechprompt_hf.core.units import UnitSequence
from speechprompt_hf.data import (
    Augmentation,
    UnitStore,
    data_fingerprint,
    default_cache_dir,
    extract_units,
    load_rows,
    load_splits,
    units_of,
)
from speechprompt_hf.data import extraction as extraction_module


def test_second_run_reads_units_only(label_folder, processor):
    rows = load_rows(label_folder)
    first = extract_units(rows, processor)
    assert first.num_encoded == processor.num_encoded == 16
    second = extract_units(rows, processor)
    assert second.num_encoded == 0 and processor.num_encoded == 16
    assert second.dataset.to_dict() == first.dataset.to_dict()
    assert "audio" not in second.dataset.column_names


def test_units_are_those_of_each_recording(label_folder, processor):
    rows = units_of(load_rows(label_folder), processor)
    for row in rows:
        wave = soundfile.read(row["item"], dtype="float32")[0]
        expected = UnitSequence.from_frames(processor.frames(wave))
        assert row["units"] == expected.units.tolist() and row["durations"] == expected.durations.tolist()


def test_cache_follows_content_not_name(label_folder, processor):
    rows = load_rows(label_folder)
    units_of(rows, processor)
    file = next(label_folder.rglob("*.wav"))
    file.rename(file.with_name("z_nohash_9.wav"))
    assert extract_units(load_rows(label_folder), processor).num_encoded == 0
    soundfile.write(file.with_name("z_nohash_9.wav"), np.zeros(3200), 16000)
    assert extract_units(load_rows(label_folder), processor).num_encoded == 1


def test_another_processor_does_not_read_these_units(label_folder, processor):
    rows = load_rows(label_folder)
    units_of(rows, processor)
    other = type(processor)(digest="e" * 64)
    units_of(rows, other)
    assert other.num_encoded == 16


def test_a_killed_run_continues_where_it_was(label_folder, processor, monkeypatch):
    monkeypatch.setattr(extraction_module, "_WINDOW_ROWS", 4)
    rows = load_rows(label_folder)
    encode = processor.encode_units

    def dies_in_the_third_window(waves, sampling_rate=None):
        if processor.num_encoded >= 8:
            raise KeyboardInterrupt
        return encode(waves, sampling_rate=sampling_rate)

    processor.encode_units = dies_in_the_third_window
    with pytest.raises(KeyboardInterrupt):
        units_of(rows, processor)
    processor.encode_units = encode
    assert extract_units(rows, processor).num_encoded == 8
    assert processor.num_encoded == 16


def test_bad_recordings_are_listed_and_do_not_stop_the_others(label_folder, processor):
    folder = label_folder / "yes"
    (folder / "b_nohash_7.wav").write_bytes(b"RIFF no sound")
    soundfile.write(folder / "b_nohash_8.wav", np.zeros(100), 16000)
    (folder / "b_nohash_9.wav").write_bytes(b"")
    rows = load_rows(label_folder)
    gone = folder / "a_nohash_0.wav"
    gone.unlink()
    for run in range(2):
        extracted = extract_units(rows, processor)
        reasons = {skip.item.rsplit("/")[-1]: (skip.error, skip.message) for skip in extracted.skips}
        assert set(reasons) == {"a_nohash_0.wav", "b_nohash_7.wav", "b_nohash_8.wav", "b_nohash_9.wav"}
        assert reasons["b_nohash_8.wav"] == ("AudioTooShortError", "the recording has 100 samples")
        assert reasons["b_nohash_7.wav"][0] == "AudioDecodeError" and str(gone) in reasons["a_nohash_0.wav"][1]
        assert len(extracted.dataset) == 15
        assert extracted.num_encoded == (0 if run else 15)


def test_an_error_of_the_encoder_ends_the_run_and_leaves_no_trace(label_folder, processor):
    rows = load_rows(label_folder)
    encode = processor.encode_units

    def mismatch(*arguments, **options):
        raise FingerprintMismatchError("other weights")

    processor.encode_units = mismatch
    with pytest.raises(FingerprintMismatchError):
        extract_units(rows, processor)
    processor.encode_units = encode
    extracted = extract_units(rows, processor)
    assert len(extracted.dataset) == 16 and not extracted.skips


def test_the_encoder_is_loaded_before_recordings_are_read(label_folder, processor):
    rows = load_rows(label_folder)
    loaded = []
    processor.unit_encoder = SimpleNamespace(load=lambda: loaded.append(processor.num_encoded))
    extract_units(rows, processor)
    extract_units(rows, processor)
    assert loaded == [0]


def test_a_recording_that_could_not_be_read_is_tried_again(label_folder, processor, monkeypatch):
    rows = load_rows(label_folder)
    read = extraction_module.load_waveform

    def no_memory(*arguments, **options):
        raise AudioDecodeError("cannot be read today")

    monkeypatch.setattr(extraction_module, "load_waveform", no_memory)
    with pytest.raises(DatasetError, match="today"):
        extract_units(rows, processor)
    monkeypatch.setattr(extraction_module, "load_waveform", read)
    assert len(extract_units(rows, processor).dataset) == 16


def test_a_recording_that_occurs_twice_is_encoded_once(label_folder, processor, monkeypatch):
    monkeypatch.setattr(extraction_module, "_WINDOW_ROWS", 2)
    rows = load_rows(label_folder)
    rows = rows.select([*range(16), 0, 1, 0])
    extracted = extract_units(rows, processor)
    assert processor.num_encoded == 16 and len(extracted.dataset) == 19


def test_windows_end_by_samples(label_folder, processor, monkeypatch):
    monkeypatch.setattr(extraction_module, "_WINDOW_SAMPLES", 9000)
    sizes = []
    encode = processor.encode_units

    def sees(waves, sampling_rate=None):
        sizes.append(len(waves))
        return encode(waves, sampling_rate=sampling_rate)

    processor.encode_units = sees
    extract_units(load_rows(label_folder), processor)
    # 4800 samples each: two of them fill a window.
    assert sizes == [2] * 8


def test_empty_recordings_are_left_out_with_copies(label_folder, processor):
    soundfile.write(label_folder / "yes" / "b_nohash_8.wav", np.zeros(0), 16000)
    rows = load_rows(label_folder)
    for run in range(2):
        extracted = extract_units(rows, processor, num_copies=2)
        assert extracted.num_encoded == (0 if run else 16) and len(extracted.dataset) == 48
        assert [skip.error for skip in extracted.skips] == ["AudioTooShortError"]


def test_nothing_usable_is_an_error(tmp_path, processor):
    rows = Dataset.from_dict({"audio": [b"junk", b"more junk"], "label": ["a", "b"], "item": ["x", "y"]})
    with pytest.raises(DatasetError, match="not one of 2 recordings can be used, first 'x'"):
        units_of(rows, processor)


def test_rows_of_units_pass_unchanged(processor):
    rows = Dataset.from_dict({"units": [[1, 2]], "label": ["a"]})
    assert units_of(rows, processor) is rows


def test_copies_are_reproducible_cached_and_different(label_folder, processor):
    rows = load_rows(label_folder)
    first = extract_units(rows, processor, num_copies=2, seed=3)
    assert len(first.dataset) == 48 and processor.num_encoded == 48
    assert list(first.dataset["label"]) == list(rows["label"]) * 3
    again = extract_units(rows, processor, num_copies=2, seed=3)
    assert again.num_encoded == 0 and again.dataset.to_dict() == first.dataset.to_dict()
    units = list(first.dataset["units"])
    assert units[:16] != units[16:32] and units[16:32] != units[32:]
    # One copy is the first of two.
    one = extract_units(rows, processor, num_copies=1, seed=3)
    assert one.num_encoded == 0 and list(one.dataset["units"]) == units[:32]


@pytest.mark.parametrize("backend", ["soxr", "torchaudio"])
def test_augmentation_changes_length_level_and_noise(backend, monkeypatch):
    from speechprompt_hf.core.extras import torchaudio_is_usable
    from speechprompt_hf.data import augmentation

    if backend == "torchaudio" and not torchaudio_is_usable():
        pytest.skip("torchaudio is not installed here")
    monkeypatch.setattr(augmentation, "torchaudio_is_usable", lambda: backend == "torchaudio")
    wave = (0.5 * np.sin(np.arange(16000) * 2 * np.pi * 440 / 16000)).astype(np.float32)
    changed = Augmentation((1.25, 1.25), (20.0, 20.0), (-6.0, -6.0)).apply(wave, 16000, np.random.default_rng(0))
    assert abs(len(changed) - 12800) <= 1 and changed.dtype == np.float32
    clean = Augmentation((1.25, 1.25), (300.0, 300.0), (0.0, 0.0)).apply(wave, 16000, np.random.default_rng(0))
    noise = changed * 10 ** (6 / 20) - clean
    ratio = 10 * np.log10(np.square(clean).sum() / np.square(noise).sum())
    assert abs(ratio - 20) < 0.2
    spectrum = np.abs(np.fft.rfft(clean))
    # A quarter faster by resampling is a quarter higher.
    assert abs(spectrum.argmax() * 16000 / len(clean) - 550) < 3


def test_impossible_augmentations_are_refused():
    with pytest.raises(ConfigurationError, match="speed"):
        Augmentation(speed=(0.0, 1.0))
    with pytest.raises(ConfigurationError, match="gain_db"):
        Augmentation(gain_db=(3.0, -3.0))


WRITER = """
import sys
from speechprompt_hf.core.units import UnitSequence
from speechprompt_hf.data.unit_store import UnitStore
store = UnitStore("f" * 64, sys.argv[1])
print("ready", flush=True)
for number in range(10):
    store.put({f"{number:064d}": UnitSequence.from_frames([number % 7, 1])})
"""


def test_processes_write_at_once_without_loss(tmp_path, project_root):
    store = UnitStore("f" * 64, tmp_path)
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=project_root, text=True) as writer:
        assert writer.stdout.readline() == "ready\n"
        for number in range(5, 15):
            store.put({f"{number:064d}": UnitSequence.from_frames([number % 7, 1])})
    assert writer.returncode == 0 and len(store) == 15


def test_cache_folder_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path / "elsewhere"))
    assert default_cache_dir() == tmp_path / "elsewhere"
    monkeypatch.delenv("SPEECHPROMPT_CACHE")
    assert default_cache_dir().parts[-2:] == (".cache", "speechprompt_hf")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        UnitStore("f" * 64, tmp_path / "file")


def test_data_fingerprint_changes_with_labels_and_recordings(label_folder, processor):
    splits = load_splits(label_folder).map_parts(lambda name, part: units_of(part, processor))
    digest = data_fingerprint(splits)["digest"]
    assert data_fingerprint(splits)["digest"] == digest
    renamed = splits.map_parts(
        lambda name, part: part.map(lambda row: {"label": "maybe" if row["label"] == "no" else row["label"]})
    )
    assert data_fingerprint(renamed)["digest"] != digest
    soundfile.write(label_folder / "no" / "a_nohash_0.wav", np.zeros(3200), 16000)
    changed = load_splits(label_folder).map_parts(lambda name, part: units_of(part, processor))
    assert data_fingerprint(changed)["digest"] != digest
