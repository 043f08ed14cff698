"""Adapters side by side: one base and one encoder in memory, answers as alone."""

import json
import shutil

import pytest
import torch

from speechprompt_hf.core.errors import AdapterError, ConfigurationError
from speechprompt_hf.demo import named_adapters, open_tasks
from speechprompt_hf.evaluation import predict_files
from speechprompt_hf.modeling.auto import SpeechPromptModel


def test_names_are_the_last_part_of_a_path_or_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert named_adapters(["runs/words/", "org/moods"], ["a b = runs/x=y"]) == {
        "words": "runs/words/",
        "moods": "org/moods",
        "a b": "runs/x=y",
    }
    assert named_adapters(["."]) == {tmp_path.name: "."}


def test_names_that_cannot_be_used_are_refused():
    with pytest.raises(ConfigurationError, match="no adapter was given"):
        named_adapters([])
    with pytest.raises(ConfigurationError, match="a/words and b/words would both be called 'words'"):
        named_adapters(["a/words", "b/words"])
    for text in ("words", "=words", "words=", " = "):
        with pytest.raises(ConfigurationError, match="NAME=DIR"):
            named_adapters([], [text])


def test_one_base_and_one_encoder_serve_all_adapters(tasks):
    models = [task.model for task in tasks.values()]
    assert len({id(model.lm) for model in models}) == 1
    assert len({id(model.processor.unit_encoder.dense_model) for model in models}) == 1
    assert len({id(model.processor) for model in models}) == len(models)
    assert [task.says_text for task in tasks.values()] == [False, False, True]
    assert not any(parameter.requires_grad for model in models for parameter in model.parameters())


def test_adapters_together_answer_as_alone(tasks, adapters, recording):
    for name, folder in adapters.items():
        (alone,) = predict_files(SpeechPromptModel.from_pretrained(folder), [recording])
        (together,) = predict_files(tasks[name].model, [recording])
        assert together == alone


def test_adapters_of_other_bases_have_their_own(adapters, tmp_path):
    from tests.fixtures.sequences import saying_model

    other = saying_model()
    other.save_pretrained(tmp_path / "other")
    from speechprompt_hf import DEFAULT_BASE, SpeechUnitProcessor

    SpeechUnitProcessor.from_pretrained(DEFAULT_BASE).save_pretrained(tmp_path / "other")
    opened = open_tasks({"words": adapters["words"], "other": tmp_path / "other"}, device="cpu")
    assert opened["words"].model.lm is not opened["other"].model.lm
    encoders = [task.model.processor.unit_encoder for task in opened.values()]
    assert encoders[0] is not encoders[1]


def test_fine_tuned_adapters_keep_their_own_language_model(base, adapters, tmp_path):
    from speechprompt_hf.modeling import SpeechPromptForAudioClassification
    from tests.fixtures.speech_encoders import unit_processor

    model = SpeechPromptForAudioClassification.from_base(str(base), ["no", "yes"], method="finetune")
    with torch.no_grad():
        next(model.lm.parameters()).add_(0.1)
    model.save_pretrained(tmp_path / "tuned")
    unit_processor("hubert_two_convolutions").save_pretrained(tmp_path / "tuned", base_source=str(base))
    opened = open_tasks({"tuned": tmp_path / "tuned", "words": adapters["words"]}, device="cpu")
    assert opened["tuned"].model.lm is not opened["words"].model.lm


def test_examples_are_recordings_of_the_adapters_folder(adapters, recording, tmp_path):
    folder = shutil.copytree(adapters["words"], tmp_path / "words")
    (folder / "examples").mkdir()
    for number in range(8):
        shutil.copy(recording, folder / "examples" / f"{number}.WAV")
    (folder / "examples" / "notes.txt").write_text("no recording")
    (folder / "examples" / "0.wav").mkdir()
    (task,) = open_tasks({"words": folder}, device="cpu").values()
    assert [path.name for path in task.examples] == [f"{number}.WAV" for number in range(6)]


def test_adapters_without_a_processor_are_refused(adapters, tmp_path):
    folder = shutil.copytree(adapters["words"], tmp_path / "words")
    (folder / "processor_config.json").unlink()
    with pytest.raises(AdapterError, match="has no processor"):
        open_tasks({"words": folder}, device="cpu")


def test_what_is_no_adapter_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(AdapterError, match="model of type 'bert'"):
        open_tasks({"words": tmp_path}, device="cpu")
    with pytest.raises(ConfigurationError, match="no adapter was given"):
        open_tasks({})
    with pytest.raises(ConfigurationError, match="device 'abacus'"):
        open_tasks({"words": tmp_path}, device="abacus")
