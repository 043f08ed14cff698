"""What a page says of a recording, without the page."""

import io
import logging
import sys
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from PIL import Image

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.demo import DemoAnswers, LabelAnswer, Picture, Refusal, TextAnswer, UploadLimits
from speechprompt_hf.evaluation import predict_files
from speechprompt_hf.explanation import explain_recording


def test_labels_are_those_of_predict_with_all_probabilities(answers, tasks, recording):
    for name in ("words", "moods"):
        (answer,) = answers.answer(name, recording)
        (expected,) = predict_files(tasks[name].model, [recording])
        assert isinstance(answer, LabelAnswer)
        assert (answer.label, answer.probabilities[answer.label]) == (expected.label, expected.probability)
        values = list(answer.probabilities.values())
        assert values == sorted(values, reverse=True) and sum(values) == pytest.approx(1)
        assert set(answer.probabilities) == set(tasks[name].model.config.id2label.values())


def test_texts_grow_and_end_as_predict_says_them(answers, tasks, recording):
    pieces = list(answers.answer("texts", recording))
    (expected,) = predict_files(tasks["texts"].model, [recording])
    assert len(expected.text) > 3
    assert all(isinstance(piece, TextAnswer) for piece in pieces)
    assert [piece.is_whole for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].text == expected.text
    for shorter, longer in pairwise(pieces):
        assert longer.text.startswith(shorter.text)


def test_a_search_saved_with_an_adapter_does_not_stop_the_stream(answers, tasks, recording, monkeypatch):
    monkeypatch.setattr(tasks["texts"].model.generation_config, "num_beams", 3)
    assert list(answers.answer("texts", recording))[-1].is_whole


def test_a_corrupt_file_is_a_sentence(answers, corrupt):
    for name in ("words", "texts"):
        (answer,) = answers.answer(name, corrupt)
        assert isinstance(answer, Refusal)
        assert answer.sentence.startswith("<i>corrupt.wav cannot be read as sound: ")
        assert answer.sentence.endswith(" wav, flac, ogg, opus and mp3 files are read.")
        assert ".." not in answer.sentence and str(corrupt.parent) not in answer.sentence
        assert answers.picture(name, corrupt) == answer


def test_unknown_tasks_are_a_sentence(answers, recording):
    expected = Refusal("there is no task 'x'. choose one of 'words', 'moods', 'texts'.")
    assert list(answers.answer("x", recording)) == [expected]
    assert answers.picture("x", recording) == expected


def test_limits_are_sentences(tasks, recording):
    (answer,) = DemoAnswers(tasks, UploadLimits(max_seconds=0.5)).answer("words", recording)
    assert answer == Refusal("a b.wav lasts 0.6 s. at most 0.5 s are read: cut it.")


def test_more_units_than_the_base_reads_are_a_sentence(answers, tmp_path):
    noise = 0.3 * np.random.default_rng(0).standard_normal(16000 * 8)
    soundfile.write(tmp_path / "long.wav", noise, 16000)
    for name in ("words", "texts"):
        (answer,) = answers.answer(name, tmp_path / "long.wav")
        assert isinstance(answer, Refusal) and "more than the" in answer.sentence
    assert isinstance(answers.picture("words", tmp_path / "long.wav"), Refusal)


def test_what_nobody_expects_is_one_sentence_and_a_log(answers, tasks, recording, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise RuntimeError("secret of the machine")

    monkeypatch.setattr(tasks["words"].model, "forward", fail)
    with caplog.at_level(logging.ERROR):
        found = [*answers.answer("words", recording), answers.picture("words", recording)]
    for answer in found:
        assert isinstance(answer, Refusal)
        assert "secret" not in answer.sentence and "log" in answer.sentence
    assert "secret of the machine" in caplog.text


def test_a_task_that_fails_does_not_stop_the_warm_up(answers, tasks, monkeypatch, caplog):
    calls = []
    monkeypatch.setattr(tasks["words"].model, "forward", lambda **kwargs: 1 / 0)
    forward = tasks["moods"].model.forward
    monkeypatch.setattr(tasks["moods"].model, "forward", lambda **kwargs: calls.append(1) or forward(**kwargs))
    answers.warm_up()
    assert "'words' cannot be warmed up" in caplog.text and calls


def test_pictures_of_labels_show_the_units_that_speak_for_them(answers, tasks, recording):
    picture = answers.picture("words", recording)
    assert isinstance(picture, Picture)
    with Image.open(io.BytesIO(picture.png)) as image:
        assert image.format == "PNG" and image.width > 600
    (wave, _) = soundfile.read(recording, dtype="float32")
    explanation = explain_recording(tasks["words"].model, wave, method="leave-one-out")
    assert f"its {len(explanation.units)} units" in picture.description
    strongest = int(np.argmax(explanation.saliency))
    assert explanation.saliency[strongest] > 0
    span = f"{explanation.units[strongest]} ({explanation.starts[strongest]:.2f} to {explanation.ends[strongest]:.2f}"
    assert repr(explanation.label) in picture.description and span in picture.description


def test_pictures_of_texts_show_units_alone(answers, recording):
    picture = answers.picture("texts", recording)
    assert isinstance(picture, Picture)
    assert picture.description.endswith("units below.")


def test_without_captum_the_picture_shows_units_alone(answers, recording, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    picture = answers.picture("words", recording)
    assert isinstance(picture, Picture) and picture.description.endswith("units below.")


def test_equal_recordings_have_equal_pictures(answers, recording):
    assert answers.picture("texts", recording) == answers.picture("texts", recording)


def test_no_tasks_are_refused():
    with pytest.raises(ConfigurationError, match="no task"):
        DemoAnswers({})
