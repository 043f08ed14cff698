"""`evaluate.evaluator("audio-classification")`: what works on transformers 5 without ffmpeg, and what does not."""

import evaluate
import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset
from transformers import AutoFeatureExtractor, pipeline

from speechprompt_hf import SpeechPromptForAudioClassification, SpeechUnitProcessor
from speechprompt_hf.core.errors import AudioDecodeError, AudioTooShortError
from speechprompt_hf.evaluation import Accuracy, predict_files
from tests.fixtures.tiny_models import PEFT_WARNING
from tests.fixtures.unit_tasks import save_audio_base, write_tones

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    base = save_audio_base(tmp_path_factory.mktemp("audio_base"))
    folder = tmp_path_factory.mktemp("adapter")
    processor = SpeechUnitProcessor.from_pretrained(base)
    model = SpeechPromptForAudioClassification.from_base(
        base, ["high", "low"], readout="pooled", processor=processor, num_virtual_tokens=2
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder, base_source=str(base))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    files = sorted(write_tones(tmp_path_factory.mktemp("tones"), rows_per_label=3, rate=22050).rglob("*.wav"))
    return Dataset.from_dict({"file": [str(file) for file in files], "label": [file.parent.name for file in files]})


@pytest.mark.parametrize("kind", ["id", "model"])
def test_evaluator_works_on_paths_with_an_id_and_with_a_model(adapter, data, kind):
    model = SpeechPromptForAudioClassification.from_pretrained(adapter)
    given = {"model_or_pipeline": str(adapter)}
    if kind == "model":
        given = {"model_or_pipeline": model, "feature_extractor": AutoFeatureExtractor.from_pretrained(adapter)}
    result = evaluate.evaluator("audio-classification").compute(**given, data=data, metric=Accuracy())
    own = [prediction.label for prediction in predict_files(model, data["file"])]
    right = np.mean([label == expected for label, expected in zip(own, data["label"], strict=True)])
    assert result["accuracy"] == pytest.approx(right)


def test_pipeline_objects_fail_in_evaluate_itself(adapter, data):
    """evaluate 0.4.6 names a TensorFlow class that transformers 5 has no longer; documented in docs/report.md."""
    classifier = pipeline("audio-classification", model=str(adapter))
    with pytest.raises(AttributeError, match="TFPreTrainedModel"):
        evaluate.evaluator("audio-classification").compute(model_or_pipeline=classifier, data=data, metric=Accuracy())


def test_pipeline_reads_paths_bytes_arrays_and_rates_alike(adapter, data, monkeypatch):
    monkeypatch.setenv("PATH", "")
    classifier = pipeline("audio-classification", model=str(adapter))
    path = data["file"][0]
    wave, rate = soundfile.read(path, dtype="float32")
    with open(path, "rb") as stream:
        content = stream.read()
    forms = [path, content, {"array": wave, "sampling_rate": rate}, {"raw": wave, "sampling_rate": rate}]
    results = [classifier(form) for form in forms]
    assert all(result == results[0] for result in results)
    assert {entry["label"] for entry in results[0]} == {"high", "low"}
    with pytest.raises(AudioDecodeError, match=r"absent\.wav"):
        classifier("absent.wav")


def test_pipeline_names_short_files_and_never_rounds_samples(adapter, data, tmp_path):
    classifier = pipeline("audio-classification", model=str(adapter), dtype=torch.bfloat16)
    soundfile.write(tmp_path / "short.wav", np.zeros(10), 16000)
    with pytest.raises(AudioTooShortError, match=r"short\.wav"):
        classifier(str(tmp_path / "short.wav"))
    assert classifier.preprocess(data["file"][0])["input_values"].dtype == torch.float32


def test_other_models_keep_the_stock_pipeline():
    from transformers import AudioClassificationPipeline

    from speechprompt_hf.audio_pipeline import SpeechPromptAudioClassificationPipeline

    other = object.__new__(SpeechPromptAudioClassificationPipeline)
    other.feature_extractor = object()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AudioClassificationPipeline, "preprocess", lambda self, inputs: ("stock", inputs))
        assert other.preprocess("a.wav") == ("stock", "a.wav")
