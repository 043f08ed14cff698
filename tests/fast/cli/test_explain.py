import json
from typing import get_args, get_type_hints

import pytest
import soundfile

from speechprompt_cli.commands import explain

pytest.importorskip("captum", reason="the extra explain is not installed")

PNG = b"\x89PNG\r\n\x1a\n"


def test_the_methods_and_the_default_are_those_of_the_library():
    from speechprompt_hf.explanation import DEFAULT_METHOD, METHODS

    hint = get_type_hints(explain.run)["method"]
    assert set(get_args(hint)) == set(METHODS)
    assert explain.run.__defaults__[2] == DEFAULT_METHOD


def test_labels_are_explained_without_a_recording(speechprompt, adapter_folder, tmp_path):
    answer = speechprompt("explain", adapter_folder, "--top", 3, "--output", tmp_path / "labels.png")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].startswith("# heard alone") and lines[1].startswith("high\t") and lines[2].startswith("low\t")
    assert len(lines) == 9
    assert 1 <= lines[1].count("(+") <= 3
    assert (tmp_path / "labels.png").read_bytes().startswith(PNG)
    one = speechprompt("explain", adapter_folder, "--label", "low", "--json")
    assert one.code == 0 and list(one.json["labels"]) == ["low"]
    assert set(one.json["labels"]["low"]) == {"heard", "weights", "mean_weights"}


def test_a_recording_is_explained(speechprompt, adapter_folder, recordings, tmp_path):
    file = recordings / "low" / "0.wav"
    grid = tmp_path / "one.TextGrid"
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", "0.6", "<exists>", "1"]
    lines += ['"IntervalTier"', '"phones"', "0", "0.6", "1", "0", "0.6", '"hum"']
    grid.write_text("\n".join(lines) + "\n")
    answer = speechprompt("explain", adapter_folder, file, "--alignment", grid, "--output", tmp_path / "one.png")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0].startswith(f"# {file}: ")
    assert {line.split("\t")[0] for line in lines[1:3]} == {"low", "high"}
    assert lines[3] == "# start\tend\tunit\tsaliency\tphone"
    assert all(line.endswith("\thum") for line in lines[4:])
    assert (tmp_path / "one.png").read_bytes().startswith(PNG)
    result = speechprompt("explain", adapter_folder, file, "--json", "--label", "high", "--method", "shapley").json
    assert (result["label"], result["method"]) == ("high", "shapley")
    assert len(result["units"]) == len(lines) - 4
    assert set(result["units"][0]) == {"start", "end", "unit", "saliency"}
    predicted = speechprompt("predict", adapter_folder, file, "--json").json["predictions"][0]
    assert next(iter(result["probabilities"].items())) == (
        predicted["label"],
        pytest.approx(predicted["probability"], abs=1e-6),
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ABSENT"], "absent"),
        (["ADAPTER", "ABSENT/a.wav"], "absent/a.wav"),
        (["ADAPTER", "RECORDINGS/low/broken.wav"], "broken.wav"),
        (["ADAPTER", "EMPTY"], "0 samples"),
        (["ADAPTER", "RECORDINGS/low/0.wav", "--label", "medium"], "'medium' is no label of this model"),
        (["ADAPTER", "--label", "medium"], "'medium' is no label of this model"),
        (["ADAPTER", "RECORDINGS/low/0.wav", "--method", "magic"], "magic"),
        (["ADAPTER", "RECORDINGS/low/0.wav", "--alignment", "ABSENT"], "is no file"),
        (["ADAPTER", "RECORDINGS/low/0.wav", "--ctc-model", "ABSENT", "--transcript", "a"], "CTC model"),
        (["ADAPTER", "RECORDINGS/low/0.wav", "--ctc-model", "m"], "belong together"),
        (["ADAPTER", "RECORDINGS/low/0.wav", "--transcript", "a"], "belong together"),
        (["ADAPTER", "RECORDINGS/low/0.wav", "--tier", "a"], "--tier belongs to --alignment"),
        (["ADAPTER", "RECORDINGS/low/0.wav", "--top", "3"], "--top is for labels"),
        (["ADAPTER", "--method", "shapley"], "--method needs a recording"),
        (
            ["ADAPTER", "a.wav", "--ctc-model", "m", "--transcript", "a", "--alignment", "b"],
            "either --alignment or --ctc-model",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    speechprompt, adapter_folder, recordings, tmp_path, arguments, words
):
    soundfile.write(tmp_path / "empty.wav", [], 16000)
    places = {
        "ABSENT": tmp_path / "absent",
        "ADAPTER": adapter_folder,
        "RECORDINGS": recordings,
        "EMPTY": tmp_path / "empty.wav",
    }
    for name, place in places.items():
        arguments = [argument.replace(name, str(place)) for argument in arguments]
    answer = speechprompt("explain", *arguments, "--output", tmp_path / "picture.png")
    assert answer.code == 2
    assert answer.out == ""
    assert words in " ".join(answer.err.replace("│", " ").split())
    assert "Traceback" not in answer.err
    assert not (tmp_path / "picture.png").exists()


def test_an_absent_alignment_is_told_before_anything_takes_time(
    speechprompt, adapter_folder, recordings, tmp_path, monkeypatch
):
    from speechprompt_hf import explanation

    monkeypatch.setattr(explanation, "explain_recording", lambda *_, **__: pytest.fail("it was explained first"))
    answer = speechprompt(
        "explain", adapter_folder, recordings / "low/0.wav", "--alignment", tmp_path / "absent.TextGrid"
    )
    assert answer.code == 2 and "absent.TextGrid is no file" in answer.err


def test_an_adapter_that_says_texts_is_refused(speechprompt, tmp_path):
    from tests.fixtures.sequence_models import make_sequence_model
    from tests.fixtures.tiny_models import tiny_lm

    lm = tiny_lm()
    lm.save_pretrained(tmp_path / "base")
    lm.name_or_path = str(tmp_path / "base")
    make_sequence_model(lm).save_pretrained(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "config.json").read_text())
    assert config["architectures"] == ["SpeechPromptForSequenceGeneration"]
    answer = speechprompt("explain", tmp_path / "adapter", "a.wav")
    assert answer.code == 2
    assert "says texts" in answer.err and "trained on labels" in answer.err
