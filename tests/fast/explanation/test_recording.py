from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from speechprompt_hf.core.errors import (
    AdapterError,
    AudioDecodeError,
    AudioTooShortError,
    AudioValueError,
    ConfigurationError,
    LabelError,
    UnitError,
)
from speechprompt_hf.core.units import UnitSequence
from speechprompt_hf.explanation import explain_recording, recording_waveform
from speechprompt_hf.explanation.recording import unit_times
from speechprompt_hf.processors.frame_geometry import FrameGeometry
from tests.fixtures.sequence_models import make_sequence_model
from tests.fixtures.tiny_models import tiny_lm


def made_up_processor(chunk_samples=1_600_000):
    """Frames of 400 samples, one every 320, at 16 kHz."""
    description = SimpleNamespace(sampling_rate=16000, chunk_samples=chunk_samples)
    dense_model = SimpleNamespace(geometry=FrameGeometry((400,), (320,)))
    return SimpleNamespace(unit_encoder=SimpleNamespace(description=description, dense_model=dense_model))


def test_an_explanation_is_of_what_the_model_hears(audio_model, waveform):
    explanation = explain_recording(audio_model, waveform)
    (sequence,) = audio_model.processor.encode_units([waveform], sampling_rate=16000)
    assert np.array_equal(explanation.units, sequence.units)
    with torch.no_grad():
        batch = audio_model.processor([waveform], sampling_rate=16000, return_tensors="pt")
        logits = audio_model(input_ids=batch["input_ids"]).logits[0]
    names = [audio_model.config.id2label[index] for index in range(3)]
    expected = dict(zip(names, logits.double().softmax(-1).tolist(), strict=True))
    assert explanation.probabilities == pytest.approx(expected)
    assert list(explanation.probabilities.values()) == sorted(expected.values(), reverse=True)
    assert explanation.label == max(expected, key=expected.get)
    assert explanation.probability == max(explanation.probabilities.values())
    assert explanation.saliency.shape == explanation.units.shape == explanation.starts.shape
    assert np.isfinite(explanation.saliency).all() and explanation.saliency.dtype == np.float32
    assert (explanation.starts < explanation.ends).all()
    assert np.allclose(explanation.ends[:-1], explanation.starts[1:])
    assert explanation.starts[0] >= 0 and explanation.ends[-1] <= len(waveform) / 16000
    order = explanation.most_salient(3)
    assert (np.diff(explanation.saliency[order]) <= 0).all() and order[0] == explanation.saliency.argmax()


def test_a_label_can_be_chosen(audio_model, waveform):
    label = audio_model.config.id2label[2]
    explanation = explain_recording(audio_model, waveform, label=label, method="leave-one-out")
    assert (explanation.label, explanation.method) == (label, "leave-one-out")


def test_every_form_of_a_recording_is_the_same(audio_model, waveform, tmp_path):
    path = tmp_path / "one.wav"
    soundfile.write(path, waveform, 16000, subtype="FLOAT")
    forms = [waveform, str(path), path, path.read_bytes(), {"array": waveform, "sampling_rate": 16000}]
    assert all(np.array_equal(recording_waveform(audio_model, form), waveform) for form in forms)
    results = [explain_recording(audio_model, form, method="leave-one-out").saliency for form in (waveform, path)]
    assert np.array_equal(*results)


@pytest.mark.parametrize(
    ("recording", "error", "words"),
    [
        (np.zeros(0, np.float32), AudioTooShortError, "0 samples"),
        (np.full(9000, np.nan, np.float32), AudioValueError, "sample 0"),
        (np.zeros(9000, np.int16), AudioValueError, "int16"),
        ("/absent/file.wav", AudioDecodeError, "/absent/file.wav"),
        (b"this is no sound", AudioDecodeError, "cannot be read as sound"),
    ],
)
def test_recordings_that_cannot_be_used_are_named(audio_model, recording, error, words):
    with pytest.raises(error, match=words):
        explain_recording(audio_model, recording)


def test_a_recording_of_one_unit(audio_model):
    silence = np.zeros(audio_model.processor.feature_extractor.min_samples, np.float32)
    explanation = explain_recording(audio_model, silence)
    assert len(explanation.units) == 1 and np.isfinite(explanation.saliency).all()


def test_a_recording_that_is_too_long_is_refused(audio_model):
    noise = np.random.default_rng(0).normal(size=16000).astype(np.float32)
    with pytest.raises(UnitError, match=r"more than the 38 that the base reads at once.*cut it"):
        explain_recording(audio_model, np.tile(noise, 20))


def test_labels_and_methods_that_do_not_exist_are_named(audio_model, waveform):
    with pytest.raises(LabelError, match=r"'medium' is no label of this model.*high, low"):
        explain_recording(audio_model, waveform, label="medium")
    with pytest.raises(ConfigurationError, match="no method 'magic'"):
        explain_recording(audio_model, waveform, method="magic")


def test_models_that_say_texts_or_have_no_processor_are_refused(unit_model, waveform):
    with pytest.raises(AdapterError, match=r"says texts.*trained on labels"):
        explain_recording(make_sequence_model(tiny_lm()), waveform)
    with pytest.raises(AdapterError, match="no processor"):
        explain_recording(unit_model(), waveform)


def test_times_are_those_of_the_frames():
    sequence = UnitSequence(np.array([4, 2, 4]), np.array([2, 1, 3]))
    starts, ends = unit_times(sequence, 400 + 5 * 320, made_up_processor())
    # The first frame is centred at 200 samples and lasts 320.
    assert starts * 16000 == pytest.approx([40, 680, 1000])
    assert ends * 16000 == pytest.approx([680, 1000, 1960])


def test_marks_of_prosody_last_for_no_time():
    sequence = UnitSequence(np.array([4, 30, 2, 31, 32]), np.array([2, 0, 1, 0, 0]))
    starts, ends = unit_times(sequence, 400 + 2 * 320, made_up_processor())
    assert starts * 16000 == pytest.approx([40, 680, 680, 1000, 1000])
    assert ends * 16000 == pytest.approx([680, 680, 1000, 1000, 1000])


def test_times_go_on_behind_the_border_of_a_chunk():
    # Two chunks of 1,000 samples have two frames each; the samples at the border belong to none.
    sequence = UnitSequence(np.array([1, 2, 3]), np.array([1, 1, 2]))
    starts, ends = unit_times(sequence, 2000, made_up_processor(1000))
    assert starts * 16000 == pytest.approx([40, 360, 1040])
    assert ends * 16000 == pytest.approx([360, 680, 1680])
