"""Exit codes and errors: one line, no traceback, 2 for what the user gave, 1 for what failed."""

import json
import os
import shutil

import pytest


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["units"], "either recordings or --dataset"),
        (["units", "a.wav", "--dataset", "d"], "either recordings or --dataset"),
        (["units", "--dataset", "d"], "belong together"),
        (["train", "--output", "o"], "--dataset"),
        (["train", "--dataset", "d", "--output", "o", "--method", "magic"], "magic"),
        (["pretrain", "--dataset", "d", "--output", "o"], "either --base or --num-units"),
        (
            ["pretrain", "--dataset", "d", "--output", "o", "--num-units", "9", "--width", "10", "--heads", "3"],
            "heads",
        ),
        (["pretrain", "--dataset", "d", "--output", "o", "--num-units", "9", "--language", "en"], "no languages"),
        (
            [
                "pretrain",
                "--dataset",
                "d",
                "--output",
                "o",
                "--num-units",
                "9",
                "--packed",
                "--architecture",
                "unit-mbart",
            ],
            "--packed belongs to",
        ),
        (["convert", "--mirror", "http://127.0.0.1:9/", "encoder", "hubert-base", "d"], "after the sub-command"),
        (["convert", "--json", "gslm", "a.pt", "d"], "after the sub-command"),
        (["train", "--dataset", "d", "--output", "o", "--seed", "-1"], "--seed"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_usage_is_exit_code_2(speechprompt, arguments, words):
    answer = speechprompt(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert words in " ".join(answer.err.split())
    assert "Traceback" not in answer.err


def test_an_absent_data_set_is_one_line(speechprompt, tmp_path, base_folder):
    answer = speechprompt("train", "--dataset", tmp_path / "absent", "--output", tmp_path / "o", "--base", base_folder)
    assert answer.code == 2
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1
    assert "absent" in answer.err and " -> " in answer.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "ABSENT", "a.wav"],
        ["predict", "no good id", "a.wav"],
        ["evaluate", "ABSENT", "--dataset", "RECORDINGS"],
        ["train", "--dataset", "RECORDINGS", "--output", "OUTPUT", "--base", "ABSENT"],
        ["train", "--dataset", "RECORDINGS", "--output", "OUTPUT", "--base", "organisation/absent"],
        ["train", "--dataset", "RECORDINGS", "--output", "OUTPUT", "--base", "RECORDINGS"],
        ["units", "RECORDINGS/low/0.wav", "--base", "ABSENT"],
        ["units", "RECORDINGS/low/0.wav", "--base", "RECORDINGS"],
        ["quantize", "--dataset", "RECORDINGS", "--encoder", "ABSENT", "--output", "OUTPUT", "--layer", "1"],
    ],
)
def test_an_absent_adapter_base_or_encoder_is_one_line(speechprompt, tmp_path, recordings, arguments):
    places = {"ABSENT": tmp_path / "absent", "OUTPUT": tmp_path / "output", "RECORDINGS": recordings}
    for name, place in places.items():
        arguments = [argument.replace(name, str(place)) for argument in arguments]
    answer = speechprompt(*arguments)
    lines = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert answer.code == 2 and answer.out == "" and len(lines) == 1
    assert " -> " in lines[0] and "Error:" not in lines[0]


def test_an_unknown_column_names_the_columns(speechprompt, tmp_path, recordings, base_folder):
    command = ["train", "--dataset", recordings, "--output", tmp_path / "o", "--base", base_folder]
    answer = speechprompt(*command, "--label-column", "emotion")
    assert answer.code == 2
    assert "'emotion'" in answer.err and "speaker" in answer.err


def test_an_adapter_that_is_none_is_exit_code_2(speechprompt, tmp_path, recordings):
    (tmp_path / "config.json").write_text("{}")
    answer = speechprompt("predict", tmp_path, recordings / "low" / "0.wav")
    assert answer.code == 2
    assert "Traceback" not in answer.err


def test_a_failure_is_exit_code_1_and_debug_shows_where(speechprompt, monkeypatch, capsys):
    from speechprompt_cli.commands import doctor

    def fail():
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(doctor, "_checks", fail)
    answer = speechprompt("doctor")
    assert answer.code == 1
    assert answer.err.splitlines() == [
        "error: RuntimeError: the disk is on fire -> speechprompt --debug COMMAND ... shows where"
    ]
    assert "Traceback" in speechprompt("--debug", "doctor").err


def test_interruption_is_exit_code_130(speechprompt, monkeypatch):
    from speechprompt_cli.commands import doctor

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "_checks", interrupt)
    assert speechprompt("doctor").code == 130


def test_quickstart_without_its_engine_says_which_extra(speechprompt, tmp_path, monkeypatch):
    from speechprompt_hf.synthesis import espeak

    monkeypatch.setattr(espeak, "is_available", lambda: False)
    answer = speechprompt("quickstart", "--output", tmp_path / "q")
    assert answer.code == 2
    assert "espeakng-loader" in answer.err and "GPL-3" in answer.err


def test_distill_without_its_teacher_says_which_extra(speechprompt, tmp_path, recordings, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    answer = speechprompt("distill", "--dataset", recordings, "--output", tmp_path / "o")
    assert answer.code == 2
    assert "pip install" in answer.err


def refused(speechprompt, *arguments):
    answer = speechprompt(*arguments)
    assert answer.code == 2 and "Traceback" not in answer.err
    return " ".join(answer.err.split())


def test_a_part_that_the_data_do_not_have_is_refused(speechprompt, adapter_folder, recordings):
    message = refused(speechprompt, "evaluate", adapter_folder, "--dataset", recordings, "--part", "tset")
    assert "has no part 'tset'" in message


def test_the_validation_part_is_the_one_of_the_training(speechprompt, adapter_folder, recordings):
    answer = speechprompt("evaluate", adapter_folder, "--dataset", recordings, "--part", "validation", "--json")
    trained = json.loads((adapter_folder / "report.json").read_text())
    assert json.loads(answer.out)["num_rows"]["validation"] == trained["num_rows"]["validation"]


def test_a_trained_adapter_is_not_replaced_unasked(speechprompt, adapter_folder, recordings, base_folder):
    command = ["train", "--dataset", recordings, "--output", adapter_folder, "--base", base_folder]
    assert "--overwrite" in refused(speechprompt, *command)


@pytest.mark.parametrize("left", ["config.json", "verbalizer.safetensors", "report.json"])
def test_what_is_left_of_an_adapter_is_not_replaced_unasked(speechprompt, adapter_folder, recordings, tmp_path, left):
    shutil.copy(adapter_folder / left, tmp_path / left)
    for option in ([], ["--resume"]):
        command = ["train", "--dataset", recordings, "--output", tmp_path, "--base", "absent-base", *option]
        assert "--overwrite" in refused(speechprompt, *command)
    # With it, what is wrong is the base.
    assert "absent-base" in refused(speechprompt, *command, "--overwrite")
    assert (tmp_path / left).read_bytes() == (adapter_folder / left).read_bytes()


def test_an_incomplete_checkpoint_is_none_to_resume(speechprompt, adapter_folder, recordings, tmp_path):
    shutil.copytree(adapter_folder, tmp_path / "a")
    (tmp_path / "a" / "checkpoints" / "checkpoint-3").mkdir(parents=True)
    (tmp_path / "a" / "checkpoints" / "checkpoint-3" / "trainer_state.json").write_text("{")
    command = ["train", "--dataset", recordings, "--output", tmp_path / "a", "--base", "absent-base", "--resume"]
    assert "nothing to resume" in refused(speechprompt, *command).replace("│ ", "")
    shutil.copytree(tmp_path / "a" / "checkpoints", tmp_path / "b" / "checkpoints")
    command[4] = tmp_path / "b"
    assert "training starts anew" in refused(speechprompt, *command)


def test_an_output_that_is_a_file_is_named(speechprompt, tmp_path, adapter_folder, recordings):
    (tmp_path / "file").write_text("")
    message = refused(speechprompt, "train", "--dataset", recordings, "--output", tmp_path / "file")
    assert "is a file" in message.replace("│ ", "")
    message = refused(speechprompt, "units", "--dataset", recordings, "--output", tmp_path / "file")
    assert "is a file" in message.replace("│ ", "")
    message = refused(speechprompt, "evaluate", adapter_folder, "--dataset", recordings, "--output", tmp_path)
    assert "is a" in message.replace("│ ", "") and "directory" in message


@pytest.mark.parametrize("device", ["tpu", "hpu", "meta"])
def test_a_device_that_is_not_here_is_named(speechprompt, adapter_folder, recordings, device):
    message = refused(speechprompt, "predict", adapter_folder, recordings / "low" / "0.wav", "--device", device)
    assert f"{device!r} cannot be used here" in message


def test_a_device_for_pretraining_that_is_not_here_is_named(speechprompt, base_folder, tmp_path):
    units = base_folder.parent / "units"
    command = ["pretrain", "--dataset", units, "--num-units", 12, "--output", tmp_path / "o", "--device", "hpu"]
    assert "'hpu' cannot be used here" in refused(speechprompt, *command)
    assert not (tmp_path / "o").exists()


def test_a_file_in_the_place_of_an_adapter_is_named(speechprompt, recordings):
    assert "0.wav is a file" in refused(speechprompt, "predict", recordings / "low" / "0.wav", "x.wav")


def test_a_misspelt_adapter_is_no_folder(speechprompt, tmp_path):
    assert "is no folder here" in refused(speechprompt, "predict", "no-such-adapter", "x.wav")


def test_damaged_tensors_are_named(speechprompt, tmp_path, adapter_folder, recordings):
    shutil.copytree(adapter_folder, tmp_path / "a", ignore=shutil.ignore_patterns("checkpoints"))
    path = tmp_path / "a" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    message = refused(speechprompt, "predict", tmp_path / "a", recordings / "low" / "0.wav")
    assert "adapter_model.safetensors cannot be read" in message


def test_a_missing_recording_is_said_to_be_missing(speechprompt, adapter_folder):
    message = refused(speechprompt, "predict", adapter_folder, "absent.wav")
    assert "absent.wav: No such file or directory" in message


def test_a_finished_run_has_nothing_to_resume(speechprompt, adapter_folder, recordings, base_folder):
    before = (adapter_folder / "report.json").read_bytes()
    command = ["train", "--dataset", recordings, "--output", adapter_folder, "--base", base_folder, "--resume"]
    assert "is finished" in refused(speechprompt, *command).replace("│ ", "")
    assert (adapter_folder / "report.json").read_bytes() == before


def test_a_quantizer_is_not_replaced_unasked(speechprompt, recordings, encoder_folder, base_folder):
    folder = base_folder.parent / "units_base"
    before = (folder / "quantizer.safetensors").read_bytes()
    command = ["quantize", "--dataset", recordings, "--encoder", encoder_folder, "--output", folder, "--layer", 1]
    assert "--overwrite" in refused(speechprompt, *command)
    assert (folder / "quantizer.safetensors").read_bytes() == before


@pytest.fixture
def other_units(speechprompt, recordings, encoder_folder, tmp_path):
    """A quantizer other than that of `base_folder`, and units of it."""
    options = ["--encoder", encoder_folder, "--layer", 2, "--clusters", 12]
    assert speechprompt("quantize", "--dataset", recordings, *options, "--output", tmp_path / "q").code == 0
    command = ["units", "--dataset", recordings, "--base", tmp_path / "q", "--output", tmp_path / "units"]
    assert speechprompt(*command).code == 0
    return ["--dataset", tmp_path / "units", "--base", tmp_path / "q"]


def test_pretrain_does_not_replace_a_quantizer_unasked(speechprompt, base_folder, other_units, tmp_path):
    shutil.copytree(base_folder, tmp_path / "whole")
    before = {
        name: (tmp_path / "whole" / name).read_bytes() for name in ("quantizer.safetensors", "model.safetensors")
    }
    sizes = ["--steps", 2, "--layers", 1, "--width", 16, "--heads", 2, "--tokens-per-step", 400]
    command = ["pretrain", *other_units, "--output", tmp_path / "whole", *sizes]
    assert "--overwrite" in refused(speechprompt, *command)
    assert {name: (tmp_path / "whole" / name).read_bytes() for name in before} == before
    # The checkpoint of the other units goes with their quantizer.
    answer = speechprompt(*command, "--overwrite", "--device", "cpu")
    assert answer.code == 0, answer.err
    new = (tmp_path / "whole" / "quantizer.safetensors").read_bytes()
    assert new == (tmp_path / "q" / "quantizer.safetensors").read_bytes() != before["quantizer.safetensors"]
    # Of the same quantizer it goes on unasked.
    assert speechprompt(*command).code == 0
    (tmp_path / "whole" / "processor_config.json").unlink()
    assert "--overwrite" in refused(speechprompt, *command)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("model.safetensors", "model.safetensors"),
        ("encoder/model.safetensors", "the encoder"),
        ("quantizer.safetensors", "quantizer.safetensors"),
        ("processor_config.json", "processor_config.json"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe\x00 no tensors", None])
def test_damaged_files_of_a_base_are_named(
    speechprompt, recordings, base_folder, tmp_path, monkeypatch, file, words, content
):
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path / "cache"))
    shutil.copytree(base_folder, tmp_path / "base")
    path = tmp_path / "base" / file
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    command = ["train", "--dataset", recordings, "--output", tmp_path / "o", "--base", tmp_path / "base"]
    message = refused(speechprompt, *command)
    assert words in message and str(tmp_path / "base") in message and "Error:" not in message
    if file != "model.safetensors":
        message = refused(speechprompt, "units", recordings / "low" / "0.wav", "--base", tmp_path / "base")
        assert words in message and "Error:" not in message


def test_a_base_without_a_language_model_says_how_to_make_one(speechprompt, recordings, base_folder, tmp_path):
    command = [
        "train",
        "--dataset",
        recordings,
        "--output",
        tmp_path / "o",
        "--base",
        base_folder.parent / "units_base",
    ]
    message = refused(speechprompt, *command)
    assert "a processor but no language model" in message and "speechprompt pretrain" in message


def test_a_base_without_its_dictionary_is_named(speechprompt, recordings, base_folder, tmp_path):
    shutil.copytree(base_folder, tmp_path / "base")
    (tmp_path / "base" / "dict.txt").unlink()
    message = refused(speechprompt, "units", recordings / "low" / "0.wav", "--base", tmp_path / "base")
    assert "dict.txt" in message


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid"), reason="needs POSIX file modes")
def test_an_output_that_cannot_be_written_is_named(speechprompt, recordings, base_folder):
    output = "/proc/no-such-folder/adapter"  # not even root can make a folder there
    answer = speechprompt("train", "--dataset", recordings, "--output", output, "--base", base_folder)
    assert answer.code == 2
    assert "Traceback" not in answer.err and "/proc/no-such-folder" in answer.err and "check the path" in answer.err
