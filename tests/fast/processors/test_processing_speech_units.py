import json
import pickle
import shutil

import numpy as np
import pytest
import torch

from speechprompt_hf.core import embedded
from speechprompt_hf.core.errors import AudioTooShortError, ConfigurationError, FingerprintMismatchError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.processors import SpeechUnitFeatureExtractor, SpeechUnitProcessor, UnitTokenizer
from tests.fixtures.speech_encoders import unit_encoder, unit_processor, waveforms


@pytest.fixture(scope="module")
def processor():
    return unit_processor()


@pytest.fixture
def base(processor, tmp_path):
    processor.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_waves_become_input_ids(processor):
    waves = waveforms([16000, 9000])
    batch = processor(waves, sampling_rate=16000, padding=True, return_tensors="pt")
    assert set(batch) == {"input_ids", "attention_mask"}
    for row, wave in enumerate(waves):
        (sequence,) = processor.encode_units([wave], sampling_rate=16000)
        length = int(batch["attention_mask"][row].sum())
        ids = batch["input_ids"][row]
        assert ids[:length].tolist() == [2, *(sequence.units + 4).tolist(), 0]
        assert (ids[length:] == 1).all()


def test_units_and_durations_on_request(processor):
    batch = processor(waveforms([16000, 9000]), sampling_rate=16000, return_tensors="pt", return_units=True)
    for row, frames in enumerate((49, 27)):
        assert batch["durations"][row].sum() == len(batch["frame_units"][row]) == frames
        assert np.array_equal(np.repeat(batch["units"][row], batch["durations"][row]), batch["frame_units"][row])
    assert batch.to("cpu")["input_ids"].shape == batch["attention_mask"].shape


def test_padding_and_tensors_are_optional(processor):
    batch = processor(waveforms([16000, 9000]), sampling_rate=16000, padding=False)
    assert [len(row) for row in batch["input_ids"]] == [len(row) for row in batch["attention_mask"]]
    assert all(type(index) is int for index in batch["input_ids"][0])


def test_text_goes_to_the_tokenizer(processor):
    assert processor(text="5 6")["input_ids"] == [2, 9, 10, 0]
    assert processor.batch_decode([[2, 9, 10, 0]], skip_special_tokens=True) == ["5 6"]
    with pytest.raises(ConfigurationError, match="either audio or text"):
        processor()


def test_values_of_the_feature_extractor_give_the_same_units(processor):
    waves = waveforms([16000, 9000, 700])
    features = processor.feature_extractor(waves, sampling_rate=16000, return_tensors="pt")
    units = processor.units_from_values(features["input_values"], features["attention_mask"])
    assert units == processor.encode_units(waves, sampling_rate=16000)
    (alone,) = processor.units_from_values(features["input_values"][:1])
    assert alone == units[0]


def test_normalization_is_over_each_recordings_own_samples():
    processor = unit_processor(normalization="unit_rms")
    waves = waveforms([16000, 9000])
    quiet = [waves[0], waves[1] * np.float32(2.0**-6)]
    assert processor.encode_units(waves, sampling_rate=16000) == processor.encode_units(quiet, sampling_rate=16000)


def test_a_bad_item_is_named(processor):
    with pytest.raises(AudioTooShortError, match="item 1 has 100 samples, fewer than the 400"):
        processor([*waveforms([800, 100])], sampling_rate=16000)


def test_prepare_units_pads_on_the_right(processor):
    batch = processor.prepare_units([[5, 6], [7]])
    assert batch["input_ids"].tolist() == [[2, 9, 10, 0], [2, 11, 0, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_a_base_is_saved_whole(processor, base):
    assert files(base) == [
        "dict.txt",
        "encoder/config.json",
        "encoder/model.safetensors",
        "processor_config.json",
        "quantizer.safetensors",
        "tokenizer_config.json",
    ]
    loaded = SpeechUnitProcessor.from_pretrained(base)
    assert not loaded.unit_encoder.is_loaded
    assert loaded.fingerprint == processor.fingerprint
    waves = waveforms([16000, 9000])
    assert loaded.encode_units(waves, sampling_rate=16000) == processor.encode_units(waves, sampling_rate=16000)


def test_auto_classes_open_a_saved_folder(processor, base):
    from transformers import AutoFeatureExtractor, AutoProcessor, AutoTokenizer

    import speechprompt_hf  # noqa: F401 - registers

    assert type(AutoProcessor.from_pretrained(base)) is SpeechUnitProcessor
    assert type(AutoFeatureExtractor.from_pretrained(base)) is SpeechUnitFeatureExtractor
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert type(tokenizer) is UnitTokenizer
    assert tokenizer("5 6")["input_ids"] == [2, 9, 10, 0]
    (wave,) = waveforms([9000])
    loaded = AutoProcessor.from_pretrained(base)
    assert torch.equal(
        loaded([wave], sampling_rate=16000, padding=True, return_tensors="pt")["input_ids"],
        processor([wave], sampling_rate=16000, padding=True, return_tensors="pt")["input_ids"],
    )


def test_an_adapter_names_its_base_instead_of_copying_it(processor, base, tmp_path):
    loaded = SpeechUnitProcessor.from_pretrained(base)
    loaded.save_pretrained(tmp_path / "adapter", base_source=str(base), base_revision="v1")
    assert files(tmp_path / "adapter") == ["dict.txt", "processor_config.json", "tokenizer_config.json"]
    saved = json.loads((tmp_path / "adapter" / "processor_config.json").read_text())["unit_encoder"]
    assert (saved["source"], saved["revision"]) == (str(base), "v1")
    assert saved["fingerprint"]["digest"] == processor.fingerprint["digest"]
    again = SpeechUnitProcessor.from_pretrained(tmp_path / "adapter")
    waves = waveforms([9000])
    assert again.encode_units(waves, sampling_rate=16000) == processor.encode_units(waves, sampling_rate=16000)
    # Saved again, as Trainer does for every checkpoint, it still is a pointer.
    again.save_pretrained(tmp_path / "checkpoint")
    assert files(tmp_path / "checkpoint") == files(tmp_path / "adapter")
    # And it can become whole.
    again.save_pretrained(tmp_path / "whole", save_encoder=True)
    assert files(tmp_path / "whole") == files(base)
    saved = json.loads((tmp_path / "whole" / "processor_config.json").read_text())["unit_encoder"]
    assert (saved["source"], saved["revision"]) == (".", None)


def test_an_adapter_refuses_another_base(base, tmp_path):
    loaded = SpeechUnitProcessor.from_pretrained(base)
    loaded.save_pretrained(tmp_path / "adapter", base_source=str(base))
    unit_processor("wav2vec2_base").save_pretrained(base)
    adapter = SpeechUnitProcessor.from_pretrained(tmp_path / "adapter")
    with pytest.raises(FingerprintMismatchError, match=loaded.fingerprint["digest"]):
        adapter(waveforms([800]), sampling_rate=16000)


def cached_repository(cache, repo_id, revisions):
    """The layout of the Hub client's cache, as after a download."""
    folder = cache / f"models--{repo_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    for number, (revision, source) in enumerate(revisions.items()):
        commit = str(number) * 40
        (folder / "refs" / revision).write_text(commit)
        shutil.copytree(source, folder / "snapshots" / commit)


def test_a_hub_base_is_read_at_its_revision(processor, tmp_path):
    processor.save_pretrained(tmp_path / "v1")
    unit_processor("wav2vec2_base").save_pretrained(tmp_path / "main")
    cache = tmp_path / "cache"
    cached_repository(cache, "org/base", {"main": tmp_path / "main", "v1": tmp_path / "v1"})
    loaded = SpeechUnitProcessor.from_pretrained("org/base", revision="v1", cache_dir=str(cache))
    waves = waveforms([9000])
    expected = processor.encode_units(waves, sampling_rate=16000)
    assert loaded.encode_units(waves, sampling_rate=16000) == expected
    # An adapter in a folder names the repository; the adapter's own revision is not asked of the base.
    loaded.save_pretrained(tmp_path / "adapter")
    assert files(tmp_path / "adapter") == ["dict.txt", "processor_config.json", "tokenizer_config.json"]
    adapter = SpeechUnitProcessor.from_pretrained(tmp_path / "adapter", cache_dir=str(cache))
    assert adapter.encode_units(waves, sampling_rate=16000) == expected
    # Without the pin the base has moved on, and its units are not those that were recorded.
    loaded.save_pretrained(tmp_path / "unpinned", base_source="org/base")
    unpinned = SpeechUnitProcessor.from_pretrained(tmp_path / "unpinned", cache_dir=str(cache))
    with pytest.raises(FingerprintMismatchError):
        unpinned.encode_units(waves, sampling_rate=16000)


def test_an_embedded_base_is_named_by_its_id(processor, tmp_path, monkeypatch):
    folder = tmp_path / "package"
    processor.save_pretrained(folder)
    monkeypatch.setitem(embedded.EMBEDDED_BASES, "example/base", str(folder))
    assert embedded.resolve_base("example/base") == str(folder)
    for name in ("example/base", folder):
        loaded = SpeechUnitProcessor.from_pretrained(name)
        loaded.save_pretrained(tmp_path / "adapter")
        text = (tmp_path / "adapter" / "processor_config.json").read_text()
        assert json.loads(text)["unit_encoder"]["source"] == "example/base"
        assert str(tmp_path) not in text
    again = SpeechUnitProcessor.from_pretrained(tmp_path / "adapter")
    waves = waveforms([9000])
    assert again.encode_units(waves, sampling_rate=16000) == processor.encode_units(waves, sampling_rate=16000)


def test_a_processor_without_a_named_base_cannot_leave_its_encoder_out(processor, tmp_path):
    with pytest.raises(ConfigurationError, match="save_encoder=False without a base"):
        processor.save_pretrained(tmp_path, save_encoder=False)


def test_saving_leaves_the_processor_as_it_is(processor, tmp_path):
    before = processor.unit_encoder.description
    processor.save_pretrained(tmp_path, base_source="example/base", base_revision="v1")
    assert processor.unit_encoder.description == before


def test_parts_must_fit():
    encoder = unit_encoder()
    for extractor, tokenizer, name in (
        (SpeechUnitFeatureExtractor(normalization="unit_rms"), UnitTokenizer.from_num_units(20), "normalization"),
        (SpeechUnitFeatureExtractor(sampling_rate=8000), UnitTokenizer.from_num_units(20), "sampling_rate"),
        (SpeechUnitFeatureExtractor(min_samples=720), UnitTokenizer.from_num_units(20), "min_samples"),
        (SpeechUnitFeatureExtractor(), UnitTokenizer.from_num_units(21), "number of units"),
    ):
        with pytest.raises(ConfigurationError, match=f"{name} is"):
            SpeechUnitProcessor(extractor, tokenizer, encoder)
    with pytest.raises(ConfigurationError, match="needs a unit encoder"):
        SpeechUnitProcessor(SpeechUnitFeatureExtractor(), UnitTokenizer.from_num_units(20))


def test_the_dictionarys_order_is_kept(tmp_path):
    encoder = unit_encoder()
    order = [str(unit) for unit in reversed(range(20))]
    processor = SpeechUnitProcessor.from_unit_encoder(encoder, UnitTokenizer(vocabulary=UnitVocabulary(tuple(order))))
    processor.save_pretrained(tmp_path)
    loaded = SpeechUnitProcessor.from_pretrained(tmp_path)
    (sequence,) = loaded.encode_units(waveforms([9000]), sampling_rate=16000)
    ids = loaded(waveforms([9000]), sampling_rate=16000)["input_ids"][0]
    assert ids == [2, *(23 - sequence.units).tolist(), 0]


def test_the_representation_holds_no_weights(processor):
    assert len(repr(processor)) < 5000
    assert "SpeechUnitProcessor" in repr(processor)
    assert processor.unit_encoder.is_loaded


@pytest.mark.parametrize("kind", ["whisper", "wavlm_large", "hubert_two_convolutions", "hubert_batch_norm"])
def test_other_encoders_are_saved_and_loaded(kind, tmp_path):
    processor = unit_processor(kind)
    processor.save_pretrained(tmp_path)
    loaded = SpeechUnitProcessor.from_pretrained(tmp_path)
    waves = waveforms([16000, 9000])
    assert loaded.encode_units(waves, sampling_rate=16000) == processor.encode_units(waves, sampling_rate=16000)
    assert loaded.feature_extractor.min_samples == processor.unit_encoder.min_samples


def test_worker_processes_get_a_small_feature_extractor(processor):
    data = pickle.dumps(processor.feature_extractor)
    assert len(data) < 2000
    waves = waveforms([800, 900])
    clone = pickle.loads(data)  # noqa: S301 - our own bytes
    ours = processor.feature_extractor(waves, sampling_rate=16000, return_tensors="pt")
    assert torch.equal(clone(waves, sampling_rate=16000, return_tensors="pt")["input_values"], ours["input_values"])
