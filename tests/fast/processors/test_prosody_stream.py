"""The second stream in the processor: aligned, exact in any batch, saved and loaded; absent unless asked for."""

import json
import pickle

import numpy as np
import pytest
import torch

from speechprompt_hf.core.errors import AudioValueError, ConfigurationError, FingerprintMismatchError, UnitError
from speechprompt_hf.core.units import UnitSequence
from speechprompt_hf.processors import SpeechUnitProcessor
from speechprompt_hf.processors.prosody_quantizer import PROSODY_FILE
from speechprompt_hf.processors.prosody_stream import ProsodyStream
from tests.fixtures.prosody import RATE, WAVES, quantizer
from tests.fixtures.speech_encoders import unit_encoder, unit_processor, waveforms


def two_streams(kind="hubert_base", **options):
    encoder = unit_encoder(kind, **options)
    return SpeechUnitProcessor.from_unit_encoder(encoder, prosody_quantizer=quantizer())


@pytest.fixture(scope="module")
def processor():
    return two_streams()


@pytest.fixture
def base(processor, tmp_path):
    processor.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_prosody_ids_are_aligned_with_input_ids(processor):
    batch = processor(WAVES, sampling_rate=RATE, return_tensors="pt", return_units=True)
    assert batch["prosody_ids"].shape == batch["input_ids"].shape == batch["attention_mask"].shape
    for row in range(len(WAVES)):
        length = int(batch["attention_mask"][row].sum())
        codes = batch["prosody"][row]
        assert len(codes) == len(batch["units"][row]) == length - 2
        assert batch["prosody_ids"][row].tolist() == [
            2,
            *(codes + 4),
            0,
            *[1] * (len(batch["input_ids"][row]) - length),
        ]
    assert len(np.unique(np.concatenate(batch["prosody"]))) > 4
    assert processor.model_input_names == ["input_ids", "attention_mask", "prosody_ids"]
    assert len(processor.prosody.vocabulary) == 16 + 4


@pytest.mark.parametrize("kind", ["hubert_base", "hubert_two_convolutions", "whisper"])
def test_codes_depend_on_no_neighbour(kind):
    processor = two_streams(kind)
    together = processor.encode_units(WAVES, sampling_rate=RATE)
    alone = [processor.encode_units([wave], sampling_rate=RATE)[0] for wave in WAVES]
    backwards = processor.encode_units(WAVES[::-1], sampling_rate=RATE)[::-1]
    assert together == alone == backwards
    values = processor.feature_extractor(WAVES, sampling_rate=RATE, return_tensors="pt")
    assert processor.units_from_values(values["input_values"], values["attention_mask"]) == alone
    assert processor.units_from_values(values["input_values"][3:4])[0] == alone[3]
    assert all(sequence.prosody is not None for sequence in alone)


def test_codes_are_those_of_the_whole_recording_where_the_encoder_cuts_it():
    processor = two_streams(chunk_samples=8000)
    (sequence,) = processor.encode_units([WAVES[3]], sampling_rate=RATE)
    assert len(sequence.prosody) == len(sequence.units)
    assert sequence.durations.sum() == processor.unit_encoder.num_frames(len(WAVES[3]))


def test_a_gain_does_not_change_the_codes():
    processor = two_streams(normalization="unit_rms")
    loud = [wave * np.float32(2.0**5) for wave in WAVES]
    assert processor.encode_units(loud, sampling_rate=RATE) == processor.encode_units(WAVES, sampling_rate=RATE)


def test_padding_samples_are_not_prosody(processor):
    values = torch.zeros(1, 32000)
    values[0, : len(WAVES[0])] = torch.from_numpy(WAVES[0])
    mask = (torch.arange(32000) < len(WAVES[0])).long()[None]
    (alone,) = processor.encode_units([WAVES[0]], sampling_rate=RATE)
    assert processor.units_from_values(values, mask) == [alone]
    values[0, len(WAVES[0]) :] = 7.0
    assert processor.units_from_values(values, mask) == [alone]


@pytest.mark.parametrize("seed", range(6))
def test_hostile_recordings_get_codes_in_range(processor, seed):
    generator = np.random.default_rng(seed)
    length = int(generator.integers(400, 6000))
    wave = [
        np.zeros(length),
        np.ones(length),
        generator.standard_normal(length) * 1e-20,
        generator.standard_normal(length) * 1e4,
        np.eye(1, length)[0],
        np.sign(generator.standard_normal(length)),
    ][seed].astype(np.float32)
    (sequence,) = processor.encode_units([wave], sampling_rate=RATE)
    assert sequence.prosody.shape == sequence.units.shape
    assert sequence.prosody.dtype == np.int64
    assert ((sequence.prosody >= 0) & (sequence.prosody < 16)).all()


def test_values_that_are_not_finite_are_refused(processor):
    values = torch.full((1, 800), float("nan"))
    with pytest.raises(AudioValueError, match="NaN"):
        processor.units_from_values(values)


def test_without_a_prosody_quantizer_everything_is_as_before(tmp_path):
    plain = unit_processor()
    batch = plain(waveforms([9000]), sampling_rate=RATE, return_units=True)
    assert set(batch) == {"input_ids", "attention_mask", "units", "durations", "frame_units"}
    assert plain.encode_units(waveforms([9000]), sampling_rate=RATE)[0].prosody is None
    assert plain.prosody is None
    assert plain.model_input_names == ["input_ids", "attention_mask"]
    assert plain.fingerprint == plain.unit_encoder.fingerprint
    plain.save_pretrained(tmp_path)
    assert "prosody" not in (tmp_path / "processor_config.json").read_text()
    assert not (tmp_path / PROSODY_FILE).exists()
    with pytest.raises(ConfigurationError, match="a processor without a prosody quantizer"):
        plain.prepare_units([[1, 2]], prosody=[[0, 0]])


def test_the_first_stream_is_not_touched(processor):
    plain = unit_processor()
    for one, other in zip(
        processor.encode_units(WAVES, sampling_rate=RATE), plain.encode_units(WAVES, sampling_rate=RATE), strict=True
    ):
        assert np.array_equal(one.units, other.units)
        assert np.array_equal(one.durations, other.durations)
    assert processor.fingerprint["digest"] == plain.fingerprint["digest"]


def test_the_fingerprint_covers_the_second_stream(processor):
    fingerprint = processor.fingerprint
    assert fingerprint["prosody_digest"] == quantizer().description.digest
    other = SpeechUnitProcessor.from_unit_encoder(processor.unit_encoder, prosody_quantizer=quantizer(seed=1))
    assert other.fingerprint["digest"] == fingerprint["digest"]
    assert other.fingerprint["streams_digest"] != fingerprint["streams_digest"] != fingerprint["digest"]


def test_auto_processor_opens_what_was_saved(processor, base):
    from transformers import AutoProcessor

    import speechprompt_hf  # noqa: F401 - registers

    assert (base / PROSODY_FILE).is_file()
    loaded = AutoProcessor.from_pretrained(base)
    assert type(loaded) is SpeechUnitProcessor
    assert loaded.fingerprint == processor.fingerprint
    first, second = (one(WAVES, sampling_rate=RATE, return_tensors="pt") for one in (processor, loaded))
    assert torch.equal(first["prosody_ids"], second["prosody_ids"])
    copied = pickle.loads(pickle.dumps(loaded))  # noqa: S301
    assert copied.encode_units(WAVES[:1], sampling_rate=RATE) == processor.encode_units(WAVES[:1], sampling_rate=RATE)


def test_an_adapters_processor_reads_the_second_stream_of_its_base(processor, base, tmp_path):
    loaded = SpeechUnitProcessor.from_pretrained(base)
    loaded.save_pretrained(tmp_path / "adapter", base_source=str(base))
    assert not (tmp_path / "adapter" / PROSODY_FILE).exists()
    adapter = SpeechUnitProcessor.from_pretrained(tmp_path / "adapter")
    expected = processor.encode_units(WAVES, sampling_rate=RATE)
    assert adapter.encode_units(WAVES, sampling_rate=RATE) == expected
    adapter.save_pretrained(tmp_path / "whole", save_encoder=True)
    assert SpeechUnitProcessor.from_pretrained(tmp_path / "whole").encode_units(WAVES, sampling_rate=RATE) == expected
    # The base's second stream has been fitted again: other codes, so the adapter refuses it.
    quantizer(seed=1).save(base / PROSODY_FILE)
    with pytest.raises(FingerprintMismatchError, match="the prosody quantizer of"):
        SpeechUnitProcessor.from_pretrained(tmp_path / "adapter").encode_units(WAVES, sampling_rate=RATE)
    (base / PROSODY_FILE).unlink()
    with pytest.raises(ConfigurationError, match=r"has no prosody_quantizer\.safetensors"):
        SpeechUnitProcessor.from_pretrained(base).encode_units(WAVES, sampling_rate=RATE)


def test_a_new_second_stream_makes_the_processor_be_saved_whole(base, tmp_path):
    loaded = SpeechUnitProcessor.from_pretrained(base)
    loaded.base_source = "example/base"
    loaded.prosody = ProsodyStream(quantizer(seed=1))
    loaded.save_pretrained(tmp_path / "new")
    again = SpeechUnitProcessor.from_pretrained(tmp_path / "new")
    assert again.unit_encoder.description.source == "."
    assert again.encode_units(WAVES, sampling_rate=RATE) == loaded.encode_units(WAVES, sampling_rate=RATE)
    with pytest.raises(ConfigurationError, match="save_encoder=False without a base"):
        loaded.save_pretrained(tmp_path / "pointer", save_encoder=False)


def test_a_damaged_block_is_named(base):
    path = base / "processor_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "prosody_quantizer": [1]}))
    with pytest.raises(ConfigurationError, match=r"the block prosody_quantizer is \[1\]"):
        SpeechUnitProcessor.from_pretrained(base)


def test_codes_must_fit_the_units(processor):
    with pytest.raises(UnitError, match=r"rows of \[2\] units came with rows of \[1\] prosody codes"):
        processor.prepare_units([[1, 2]], prosody=[[3]])
    with pytest.raises(UnitError, match="unit 16 is not among the 16 units"):
        processor.prepare_units([[1, 2]], prosody=[[3, 16]])
    with pytest.raises(UnitError, match="2 units came with prosody codes of shape"):
        UnitSequence(np.array([1, 2]), np.array([1, 1]), np.array([0]))


def test_sequences_with_other_codes_are_not_equal():
    units, durations = np.array([1, 2]), np.array([3, 1])
    plain = UnitSequence(units, durations)
    coded = UnitSequence(units, durations, np.array([5, 6]))
    assert plain == UnitSequence(units, durations)
    assert coded == UnitSequence(units, durations, np.array([5, 6]))
    assert coded != plain
    assert coded != UnitSequence(units, durations, np.array([5, 7]))
