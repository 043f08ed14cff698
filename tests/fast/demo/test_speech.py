"""Adapters that answer with speech: as `generate` does, never longer than allowed, and not without a vocoder."""

import io
import json
import re
import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image

from speechprompt_hf.core.errors import AdapterError, ConfigurationError
from speechprompt_hf.demo import DemoAnswers, Picture, Refusal, SpeechAnswer, UploadLimits, open_tasks
from speechprompt_hf.generation import generate_files
from tests.fixtures.speech_generation import save_speaking_folders, save_vocoder, write_noises
from tests.fixtures.tiny_models import PEFT_WARNING

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


@pytest.fixture(scope="module")
def corrector(tmp_path_factory):
    return save_speaking_folders(tmp_path_factory.mktemp("corrector"), speech_task="correction")


def with_values(adapter, target, **values):
    """A copy of an adapter with other values in its config.json."""
    shutil.copytree(adapter, target)
    path = target / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return target


@pytest.fixture(scope="module")
def spoken(speaking, corrector):
    return open_tasks({"stories": speaking / "adapter", "mended": corrector / "adapter"}, device="cpu")


@pytest.fixture(scope="module")
def noises(tmp_path_factory):
    return write_noises(tmp_path_factory.mktemp("noises"), 2)


def test_the_sound_is_that_of_generate_byte_for_byte(spoken, noises, tmp_path):
    for name, task in spoken.items():
        (answer,) = DemoAnswers(spoken).answer(name, noises[0])
        (expected,) = generate_files(task.model, noises[:1], tmp_path / name)
        line = expected.lines[0]
        assert isinstance(answer, SpeechAnswer)
        assert answer.wav == (tmp_path / name / line["output"]).read_bytes()
        assert (answer.units.tolist(), answer.own_units) == (line["units"], line["own_units"])
        assert np.diff(answer.ends, prepend=0) * 50 == pytest.approx(line["durations"])
        assert not answer.is_cut and answer.seconds == line["seconds"] == pytest.approx(answer.ends[-1])
    assert spoken["stories"].model.config.speech_task == "continuation" and answer.own_units == 0


def test_loudness_and_rate_are_the_vocoders(spoken, noises):
    (answer,) = DemoAnswers(spoken).answer("stories", noises[0])
    wave, rate = soundfile.read(io.BytesIO(answer.wav), dtype="float32")
    assert rate == answer.sampling_rate == spoken["stories"].model.vocoder.sampling_rate == 500
    assert np.abs(wave - answer.waveform).max() < 1e-4
    assert np.abs(wave).max() < 0.99  # otherwise it could not be seen that nothing makes it louder


def test_a_continuation_hears_three_seconds(spoken, tmp_path):
    soundfile.write(tmp_path / "long.wav", 0.1 * np.random.default_rng(1).standard_normal(16000 * 6), 16000)
    wave, _ = soundfile.read(tmp_path / "long.wav", dtype="float32")
    (heard,) = spoken["stories"].model.processor.encode_units([wave[:48000]], sampling_rate=16000)
    (answer,) = DemoAnswers(spoken).answer("stories", tmp_path / "long.wav")
    # More than the tiny base reads, and exactly as many as three seconds have.
    assert isinstance(answer, Refusal)
    assert f"long.wav has {len(heard.units)} units, more than the" in answer.sentence


def test_answers_are_cut_at_the_limit(spoken, noises, monkeypatch):
    (whole,) = DemoAnswers(spoken).answer("mended", noises[0])
    asked = []
    model = spoken["mended"].model
    generate = model.generate_units
    monkeypatch.setattr(
        model, "generate_units", lambda **options: asked.append(options["max_new_tokens"]) or generate(**options)
    )
    limits = UploadLimits(max_answer_seconds=0.06)
    (answer,) = DemoAnswers(spoken, limits).answer("mended", noises[0])
    assert asked == [3]
    assert answer.is_cut and answer.seconds == pytest.approx(0.06) and answer.ends[-1] == pytest.approx(0.06)
    assert answer.units.tolist() == whole.units[: len(answer.units)].tolist() and len(answer.units) <= 3
    made = DemoAnswers(spoken, limits)
    assert made.picture("mended", noises[0]).description.endswith("It is cut at 0.1 s.")


def test_equal_recordings_are_answered_once_and_few_are_kept(spoken, noises, monkeypatch):
    made = DemoAnswers(spoken)
    (first,) = made.answer("stories", noises[0])
    (again,) = made.answer("stories", noises[0])
    (other,) = made.answer("stories", noises[1])
    assert again is first and other.wav != first.wav
    monkeypatch.setattr("speechprompt_hf.demo.speech._MOST_KEPT", 1)
    list(made.answer("stories", noises[1]))
    list(made.answer("mended", noises[0]))
    assert len(made._speech._kept) == 1
    (anew,) = made.answer("stories", noises[0])
    assert anew is not first and anew.wav == first.wav


def test_pictures_show_what_was_heard_and_what_was_said(spoken, noises):
    made = DemoAnswers(spoken)
    for name, words in (("stories", r"The first 0\.\d s of the recording"), ("mended", "The recording")):
        (answer,) = made.answer(name, noises[0])
        picture = made.picture(name, noises[0])
        assert isinstance(picture, Picture)
        with Image.open(io.BytesIO(picture.png)) as image:
            assert image.height > 500
        heard = len(answer.heard_units.units)
        assert re.match(rf"{words} as a waveform, its {heard} units below; then the answer", picture.description)
        assert f"its {len(answer.units)} units below" in picture.description
        assert ("recording's own" in picture.description) == (name == "stories")


def test_what_cannot_be_answered_is_a_sentence(spoken, corrupt, noises, monkeypatch):
    made = DemoAnswers(spoken)
    (answer,) = made.answer("stories", corrupt)
    assert isinstance(answer, Refusal) and "cannot be read as sound" in answer.sentence
    monkeypatch.setattr(spoken["mended"].model, "generate_units", lambda **options: [np.zeros(0, dtype=int)])
    (answer,) = made.answer("mended", noises[0])
    assert answer == Refusal(f"the model says nothing after {noises[0].name}. train it longer, or search otherwise.")
    assert made.picture("mended", noises[0]) == answer


def test_the_first_voice_of_several_is_heard(speaking, tmp_path, noises):
    several = save_vocoder(tmp_path / "voices", 20, num_speakers=2)
    made = DemoAnswers(open_tasks({"stories": speaking / "adapter"}, device="cpu", vocoder=several))
    (answer,) = made.answer("stories", noises[0])
    assert isinstance(answer, SpeechAnswer) and answer.seconds > 0


def test_labels_and_speech_stand_side_by_side_on_one_base(spoken, adapters, speaking):
    tasks = open_tasks({"words": adapters["words"], "stories": speaking / "adapter", "texts": adapters["texts"]})
    kinds = [(task.says_text, task.says_speech) for task in tasks.values()]
    assert kinds == [(False, False), (False, True), (True, False)]


def test_one_vocoder_serves_all(speaking, corrector):
    folders = {"a": speaking / "adapter", "b": corrector / "adapter"}
    tasks = open_tasks(folders, device="cpu", vocoder=speaking / "vocoder")
    assert tasks["a"].model.vocoder is tasks["b"].model.vocoder
    # Without one, and where only some are given, each has the one that it names.
    tasks = open_tasks(folders, device="cpu")
    assert tasks["a"].model.vocoder is not tasks["b"].model.vocoder
    tasks = open_tasks(folders, device="cpu", vocoder={"a": str(corrector / "vocoder")})
    assert tasks["a"].model.vocoder is tasks["b"].model.vocoder


def test_without_a_vocoder_it_is_said_what_to_do(speaking, adapters, tmp_path):
    nameless = with_values(speaking / "adapter", tmp_path / "nameless", vocoder_name_or_path=None)
    with pytest.raises(ConfigurationError, match=r"units of the adapter 'a' sound .*--vocoder DIR_OR_ID"):
        open_tasks({"a": nameless}, device="cpu")
    named = with_values(speaking / "adapter", tmp_path / "named", vocoder_name_or_path="org/vocoder")
    with pytest.raises(AdapterError, match=r"'a' names the vocoder org/vocoder, .*--vocoder org/vocoder"):
        open_tasks({"a": named}, device="cpu")
    assert open_tasks({"a": named}, device="cpu", vocoder=speaking / "vocoder")["a"].model.vocoder is not None


def test_vocoders_that_do_not_fit_are_refused(speaking, adapters, tmp_path):
    with pytest.raises(ConfigurationError, match="the vocoder says 7 units"):
        open_tasks({"a": speaking / "adapter"}, device="cpu", vocoder=save_vocoder(tmp_path / "other", 7))
    with pytest.raises(AdapterError, match="makes no sound of units"):
        open_tasks({"a": speaking / "adapter"}, device="cpu", vocoder=speaking / "base")
    with pytest.raises(ConfigurationError, match=r"none of the adapters answers with speech .*leave the vocoder out"):
        open_tasks({"a": adapters["words"]}, device="cpu", vocoder=speaking / "vocoder")


def test_the_warm_up_speaks(spoken, caplog):
    DemoAnswers(spoken).warm_up()
    assert not [record for record in caplog.records if "warmed" in record.message]


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_the_limit_of_answers_is_positive(value):
    with pytest.raises(ConfigurationError, match="max_answer_seconds"):
        UploadLimits(max_answer_seconds=value)
