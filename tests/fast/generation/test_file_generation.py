"""Recordings to files of speech: what is written, that it is found again, and what other options are answered with."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from filelock import FileLock

from speechprompt_hf import SpeechPromptForSpeechGeneration, SpeechUnitProcessor
from speechprompt_hf.core.errors import AdapterError, ConfigurationError, FingerprintMismatchError
from speechprompt_hf.core.units import UnitSequence, scaled_durations
from speechprompt_hf.generation import GenerationSettings, generate_files, resynthesise_files
from speechprompt_hf.modeling.unit_speech import load_vocoder
from tests.fixtures.speech_generation import save_speaking_folders, write_noises
from tests.fixtures.tiny_models import PEFT_WARNING
from tests.fixtures.vocoders import tiny_vocoder

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)
HALF = GenerationSettings(prompt_seconds=0.1)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = save_speaking_folders(tmp_path_factory.mktemp("work"))
    write_noises(folder / "noises", 4)
    return folder


@pytest.fixture(scope="module")
def model(work):
    return SpeechPromptForSpeechGeneration.from_pretrained(work / "adapter").attach_vocoder(
        load_vocoder(work / "vocoder")
    )


@pytest.fixture
def files(work):
    return sorted(map(str, (work / "noises").glob("*.wav")))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_each_recording_is_continued(model, files, tmp_path):
    made = list(generate_files(model, files, tmp_path, HALF))
    assert [speech.file for speech in made] == files
    lines = [json.loads(line) for line in (tmp_path / "generations.jsonl").read_text().splitlines()]
    assert lines == [line for speech in made for line in speech.lines]
    for file, line in zip(files, lines, strict=True):
        wave, _ = soundfile.read(file, dtype="float32")
        heard = model.processor.encode_units([wave[:1600]], sampling_rate=16000)[0]
        own = line["own_units"]
        # The prompt is the recording's beginning, encoded without what follows, at the recording's own pace.
        assert line["units"][:own] == heard.units.tolist()
        assert line["durations"][:own] == heard.durations.tolist()
        assert line["units"][own:] and all(a != b for a, b in zip(line["units"], line["units"][1:], strict=False))
        sound = soundfile.SoundFile(tmp_path / line["output"])
        assert (sound.subtype, sound.samplerate, sound.frames) == ("PCM_16", 500, 10 * sum(line["durations"]))
        assert line["seconds"] == sound.frames / 500
    assert len({tuple(line["units"][line["own_units"] :]) for line in lines}) > 1


def test_the_sound_is_the_vocoders(model, files, tmp_path):
    (speech,) = generate_files(model, files[:1], tmp_path, HALF)
    line = speech.lines[0]
    wave, _ = soundfile.read(tmp_path / line["output"], dtype="float32")
    said = model.vocoder(torch.tensor([line["units"]]), durations=torch.tensor([line["durations"]]))
    assert np.abs(wave - said.waveform[0].numpy()).max() < 1e-4


def test_what_is_drawn_depends_on_seed_and_recording_alone(model, files, tmp_path):
    def drawn(name, chosen, **options):
        torch.manual_seed(len(name))
        made = generate_files(model, chosen, tmp_path / name, replace(HALF, **options))
        return {speech.file: speech.lines[0]["units"] for speech in made}

    first = drawn("first", files)
    assert drawn("reversed", files[::-1]) == first
    assert drawn("one", files[2:3])[files[2]] == first[files[2]]
    assert drawn("other", files, seed=1) != first


def test_a_finished_run_makes_nothing_again(model, files, tmp_path, monkeypatch):
    list(generate_files(model, files, tmp_path, HALF))
    before = contents(tmp_path)
    monkeypatch.setattr(model, "generate_units", None)
    again = list(generate_files(model, files, tmp_path, HALF))
    assert all(speech.was_there for speech in again)
    assert contents(tmp_path) == before


def test_what_is_missing_or_damaged_is_made_again(model, files, tmp_path):
    list(generate_files(model, files, tmp_path, HALF))
    before = contents(tmp_path)
    (tmp_path / "noise01.wav").write_bytes(before["noise01.wav"][:-2])
    (tmp_path / "noise02.wav").unlink()
    (tmp_path / ".noise02.wav.abcd_123.wav").write_bytes(b"half")
    made = list(generate_files(model, files, tmp_path, HALF))
    assert [speech.was_there for speech in made] == [True, False, False, True]
    assert contents(tmp_path) == before
    assert not list(tmp_path.glob(".*.wav"))
    (tmp_path / "generations.jsonl").unlink()
    assert not any(speech.was_there for speech in generate_files(model, files, tmp_path, HALF))
    assert contents(tmp_path) == before


def test_a_changed_recording_is_answered_anew(model, work, tmp_path):
    (file,) = write_noises(tmp_path / "in", 1)
    (first,) = generate_files(model, [file], tmp_path / "out", HALF)
    write_noises(tmp_path / "in", 1, seed=5)
    (second,) = generate_files(model, [file], tmp_path / "out", HALF)
    assert not second.was_there and first.lines[0]["sha256"] != second.lines[0]["sha256"]
    assert len((tmp_path / "out" / "generations.jsonl").read_text().splitlines()) == 1


def test_recordings_of_one_name_do_not_share_a_file(model, tmp_path):
    files = [*write_noises(tmp_path / "a", 1), *write_noises(tmp_path / "b", 1, seed=1)]
    made = list(generate_files(model, files, tmp_path / "out", HALF))
    names = [speech.lines[0]["output"] for speech in made]
    assert names[0] == "noise00.wav" and names[1].startswith("noise00-") and len(set(names)) == 2
    again = list(generate_files(model, files[::-1], tmp_path / "out", HALF))
    assert all(speech.was_there for speech in again)


def test_several_samples(model, files, tmp_path):
    made = list(generate_files(model, files[:2], tmp_path, replace(HALF, num_samples=3, temperature=2.0)))
    assert [[line["output"] for line in speech.lines] for speech in made] == [
        [f"noise0{number}-{sample}.wav" for sample in (1, 2, 3)] for number in (0, 1)
    ]
    assert len({tuple(line["units"]) for line in made[0].lines}) > 1
    (tmp_path / "noise00-2.wav").unlink()
    again = list(generate_files(model, files[:2], tmp_path, replace(HALF, num_samples=3, temperature=2.0)))
    assert [speech.was_there for speech in again] == [False, True]
    assert again[0].lines == made[0].lines


def test_a_bad_recording_does_not_stop_the_others(model, files, tmp_path):
    bad, short = tmp_path / "bad.wav", tmp_path / "short.wav"
    bad.write_bytes(b"no sound")
    soundfile.write(short, np.zeros(3), 16000)
    given = [bad, files[0], tmp_path / "none.wav", short]
    made = list(generate_files(model, given, tmp_path / "out", HALF))
    assert [speech.error is None for speech in made] == [False, True, False, False]
    for speech, words in zip(made, ("cannot be read as sound", None, "none.wav", "fewer than the"), strict=True):
        assert words is None or (words in speech.error and speech.file in speech.error)
    assert {path.name for path in (tmp_path / "out").glob("*.wav")} == {"noise00.wav"}


def test_a_recording_that_is_too_long_is_named(model, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.random.default_rng(0).standard_normal(30_000) * 0.1, 16000)
    (speech,) = generate_files(model, [tmp_path / "long.wav"], tmp_path / "out", GenerationSettings())
    assert "units, more than the" in speech.error and "long.wav" in speech.error


def test_folders_of_others_are_refused(model, files, tmp_path):
    list(generate_files(model, files[:1], tmp_path / "out", HALF))
    with pytest.raises(ConfigurationError, match=r"made with other options: tempo was 1\.0 and is 2\.0"):
        list(generate_files(model, files[:1], tmp_path / "out", replace(HALF, tempo=2.0)))
    made = list(generate_files(model, files[1:2], tmp_path / "out", replace(HALF, tempo=2.0), overwrite=True))
    assert not made[0].was_there and {path.name for path in (tmp_path / "out").glob("*.wav")} == {"noise01.wav"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "song.wav").write_bytes(b"mine")
    with pytest.raises(ConfigurationError, match=r"holds recordings that were not generated, first song.wav"):
        list(generate_files(model, files[:1], tmp_path / "mine", HALF))
    assert (tmp_path / "mine" / "song.wav").read_bytes() == b"mine"
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(ConfigurationError, match="another process generates"):
        list(generate_files(model, files[1:2], tmp_path / "out", replace(HALF, tempo=2.0)))
    (tmp_path / "out" / "generations.jsonl").write_text("{\n")
    with pytest.raises(ConfigurationError, match=r"line 1 of .* is damaged"):
        list(generate_files(model, files[1:2], tmp_path / "out", replace(HALF, tempo=2.0)))


def test_lines_of_strangers_name_no_other_folder(model, files, tmp_path):
    list(generate_files(model, files[:1], tmp_path / "out", HALF))
    outside = tmp_path / "outside.wav"
    outside.write_bytes(b"keep me")
    path = tmp_path / "out" / "generations.jsonl"
    path.write_text(json.dumps({**json.loads(path.read_text()), "output": "../outside.wav"}) + "\n")
    (tmp_path / "out" / "noise00.wav").unlink()
    list(generate_files(model, files[:1], tmp_path / "out", replace(HALF, seed=3), overwrite=True))
    assert outside.read_bytes() == b"keep me"


def test_as_much_is_heard_as_in_training(model, files, tmp_path, monkeypatch):
    def heard(name, **options):
        made = generate_files(model, files, tmp_path / name, GenerationSettings(**options))
        return [line["units"][: line["own_units"]] for speech in made for line in speech.lines]

    tenth, whole = heard("tenth", prompt_seconds=0.1), heard("whole")
    assert tenth != whole == heard("three", prompt_seconds=3.0)
    monkeypatch.setattr(model.config, "prompt_seconds", 0.1)
    assert heard("trained") == tenth and heard("asked", prompt_seconds=3.0) == whole
    with pytest.raises(ConfigurationError, match=r"prompt_seconds was 3\.0 and is 0\.1"):
        heard("whole")
    monkeypatch.setattr(model.config, "max_output_tokens", 2)
    with pytest.raises(ConfigurationError, match="max_units was 8 and is 2"):
        heard("trained")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"prompt_seconds": 0}, "prompt_seconds is 0"),
        ({"prompt_seconds": float("inf")}, "prompt_seconds is inf"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"num_samples": 2, "sample": False}, "num_samples is 2 without sampling"),
        ({"temperature": 0}, "temperature is 0"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_k": -1}, "top_k is -1"),
        ({"tempo": 0}, "tempo is 0"),
        ({"max_units": 0}, "max_units is 0"),
        ({"speaker": -1}, "speaker is -1"),
    ],
    ids=str,
)
def test_impossible_settings(options, match):
    with pytest.raises(ConfigurationError, match=match):
        GenerationSettings(**options)


def test_settings_that_depend_on_the_task():
    assert GenerationSettings().search_options("continuation")["do_sample"] is True
    assert GenerationSettings().search_options("correction")["do_sample"] is False
    assert GenerationSettings(sample=True).search_options("translation")["do_sample"] is True
    with pytest.raises(ConfigurationError, match="num_beams is 2 where units are drawn"):
        GenerationSettings(num_beams=2).search_options("continuation")
    with pytest.raises(ConfigurationError, match="num_samples is 2, and correction does not sample"):
        GenerationSettings(num_samples=2).search_options("correction")


@pytest.mark.parametrize("task", ["correction", "translation"])
def test_answers_of_other_tasks_hold_nothing_of_the_recording(work, files, tmp_path, task):
    folder = save_speaking_folders(tmp_path / "work", speech_task=task)
    model = SpeechPromptForSpeechGeneration.from_pretrained(folder / "adapter").attach_vocoder(
        load_vocoder(folder / "vocoder")
    )
    made = list(generate_files(model, files, tmp_path / "out"))
    for speech in made:
        if speech.error is not None:
            assert "the model says nothing after" in speech.error
            continue
        wave, _ = soundfile.read(speech.file, dtype="float32")
        inputs = model.processor([wave], sampling_rate=16000, return_tensors="pt")
        assert speech.lines[0]["own_units"] == 0
        assert speech.lines[0]["units"] == model.generate_units(**inputs, do_sample=False)[0].tolist()
    assert any(speech.error is None for speech in made)


def test_resynthesis_keeps_the_pace_of_the_recording(work, files, tmp_path):
    processor, vocoder = SpeechUnitProcessor.from_pretrained(work / "base"), load_vocoder(work / "vocoder")
    for tempo in (1.0, 2.0):
        made = list(
            resynthesise_files(processor, vocoder, files, tmp_path / str(tempo), GenerationSettings(tempo=tempo))
        )
        for speech in made:
            wave, _ = soundfile.read(speech.file, dtype="float32")
            heard: UnitSequence = processor.encode_units([wave], sampling_rate=16000)[0]
            line = speech.lines[0]
            assert line["units"] == heard.units.tolist()
            assert line["durations"] == scaled_durations(heard.durations, tempo).tolist()
            assert soundfile.info(tmp_path / str(tempo) / line["output"]).frames == 10 * sum(line["durations"])
    free = list(
        resynthesise_files(processor, vocoder, files, tmp_path / "free", GenerationSettings(predict_durations=True))
    )
    line = free[0].lines[0]
    assert line["durations"] == vocoder.predict_durations(torch.tensor([line["units"]]))[0].tolist()
    with pytest.raises(ConfigurationError, match=r"task was 'resynthesis'|model was"):
        model = SpeechPromptForSpeechGeneration.from_pretrained(work / "adapter").attach_vocoder(vocoder)
        list(generate_files(model, files, tmp_path / "free"))


def test_a_vocoder_of_another_base_and_models_without_parts_are_refused(work, files, tmp_path):
    processor = SpeechUnitProcessor.from_pretrained(work / "base")
    stranger = tiny_vocoder(vocab_size=20, sampling_rate=500, fingerprint={"digest": "0" * 64})
    with pytest.raises(FingerprintMismatchError):
        resynthesise_files(processor, stranger, files, tmp_path / "out")
    with pytest.raises(ConfigurationError, match="the vocoder says 11 units, the base has 20"):
        resynthesise_files(processor, tiny_vocoder(), files, tmp_path / "out")
    model = SpeechPromptForSpeechGeneration.from_pretrained(work / "adapter")
    with pytest.raises(AdapterError, match="no vocoder is attached"):
        generate_files(model, files, tmp_path / "out")
    (tmp_path / "bare").mkdir()
    model.save_pretrained(tmp_path / "bare")
    for name in ("processor_config.json", "tokenizer_config.json"):
        (tmp_path / "bare" / name).unlink(missing_ok=True)
    bare = SpeechPromptForSpeechGeneration.from_pretrained(tmp_path / "bare")
    with pytest.raises(AdapterError, match="has no processor that makes units of recordings"):
        generate_files(bare, files, tmp_path / "out")
