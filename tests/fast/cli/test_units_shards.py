"""`speechprompt units` in shards: the command of one of several processes, and who reads what it wrote."""

import json
import runpy
import shutil
import sys

import pytest
import torch

from speechprompt_cli.corpus_shards import device_of
from speechprompt_hf.data.corpus_shards import World


@pytest.fixture(scope="module")
def shards(recordings, base_folder, tmp_path_factory):
    """The units of the recordings in shards of five."""
    from speechprompt_cli.main import main

    output = tmp_path_factory.mktemp("shards") / "units"
    command = ["units", "--dataset", recordings, "--output", output, "--base", base_folder, "--shard-rows", 5]
    assert main(list(map(str, command))) == 0
    return output


def units_command(recordings, output, base_folder, *options):
    return ["units", "--dataset", recordings, "--output", output, "--base", base_folder, *options]


def test_two_processes_make_what_one_makes(speechprompt, recordings, base_folder, shards, tmp_path, monkeypatch):
    command = units_command(recordings, tmp_path / "units", base_folder, "--shard-rows", 5, "--json")
    answers = []
    for rank in (1, 0):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", str(rank))
        answers.append(speechprompt(*command))
    assert [answer.code for answer in answers] == [0, 0], answers[0].err
    assert answers[0].out == "" and "other processes have shards to make" in answers[0].err
    assert "process 1 of 2: 2 shards made, " in answers[0].err and " hours per hour" in answers[0].err
    assert answers[1].json["parts"]["all"]["recordings"] == 24
    assert answers[1].json == json.loads((tmp_path / "units" / "units.json").read_text())
    assert {path.name: path.read_bytes() for path in shards.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "units").iterdir()
    }


def test_the_result_is_a_line_a_part(speechprompt, recordings, base_folder, shards):
    answer = speechprompt(*units_command(recordings, shards, base_folder, "--shard-rows", 5))
    assert answer.code == 0
    assert answer.out == f"{shards}\tall\t24 recordings\t0 left out\t0.00 h\n"
    assert "0 shards made, 0 recordings" in answer.err and "5 shards were there" in answer.err


def test_several_processes_make_shards_unasked(speechprompt, recordings, base_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    answer = speechprompt(*units_command(recordings, tmp_path, base_folder))
    assert answer.code == 0 and (tmp_path / "all-00000-of-00001.parquet").is_file()


def test_pretrain_reads_shards_as_it_reads_tables(speechprompt, recordings, base_folder, shards, tmp_path):
    losses = []
    for number, units in enumerate((base_folder.parent / "units", shards)):
        command = ["pretrain", "--dataset", units, "--base", base_folder.parent / "units_base", "--json", "--steps", 3]
        command += ["--width", 16, "--heads", 2, "--layers", 1, "--output", tmp_path / str(number)]
        answer = speechprompt(*command)
        assert answer.code == 0, answer.err
        losses.append(answer.json["last_report"]["loss"])
    assert losses[0] == losses[1]


def test_train_reads_shards(speechprompt, base_folder, shards, tmp_path):
    command = ["train", "--dataset", shards, "--base", base_folder, "--output", tmp_path / "a", "--epochs", 1]
    answer = speechprompt(*command)
    assert answer.code == 0, answer.err


def test_half_a_corpus_is_not_trained_on(speechprompt, recordings, base_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    speechprompt(*units_command(recordings, tmp_path / "units", base_folder, "--shard-rows", 5))
    monkeypatch.delenv("WORLD_SIZE")
    command = ["pretrain", "--dataset", tmp_path / "units", "--num-units", 12, "--output", tmp_path / "lm"]
    answer = speechprompt(*command)
    assert answer.code == 2
    assert "a part of the shards" in answer.err and "start that command again" in answer.err


def test_pretrain_refuses_units_that_are_no_lists_of_integers(speechprompt, tmp_path):
    from datasets import Dataset

    Dataset.from_dict({"units": ["1 2 3", "2 3"]}).to_parquet(str(tmp_path / "t.parquet"))
    command = ["pretrain", "--dataset", tmp_path / "t.parquet", "--num-units", 12, "--output", tmp_path / "lm"]
    answer = speechprompt(*command)
    assert answer.code == 2 and "the column units holds string, not lists of integers" in answer.err


def test_tables_beside_shards_are_refused(speechprompt, recordings, base_folder, shards, tmp_path):
    answer = speechprompt(*units_command(recordings, shards, base_folder))
    assert answer.code == 2 and "holds shards of a corpus" in answer.err
    assert "go on with --shard-rows 5" in answer.err
    shutil.copytree(base_folder.parent / "units", tmp_path / "units")
    answer = speechprompt(*units_command(recordings, tmp_path / "units", base_folder, "--shard-rows", 5))
    assert answer.code == 2 and "all.parquet is no shard of this run" in answer.err


def test_a_base_other_than_before_is_refused_by_both_names(speechprompt, recordings, encoder_folder, shards, tmp_path):
    options = ["--encoder", encoder_folder, "--layer", 2, "--clusters", 12, "--output", tmp_path / "other"]
    assert speechprompt("quantize", "--dataset", recordings, *options).code == 0
    answer = speechprompt(*units_command(recordings, shards, tmp_path / "other", "--shard-rows", 5))
    there = json.loads((shards / "units.json").read_text())["fingerprint"]["digest"]
    assert answer.code == 2 and there[:16] in answer.err and answer.err.count("made by") == 1
    assert "this run makes those of" in answer.err and "remove the old shards" in answer.err


def test_recordings_in_files_are_streamed_by_their_names(speechprompt, recordings, base_folder, tmp_path):
    answer = speechprompt(*units_command(recordings, tmp_path, base_folder, "--streaming", "--shard-rows", 10))
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in tmp_path.glob("*.parquet"))[0] == "all-00000-of-00003.parquet"


def test_parquet_is_streamed(speechprompt, recordings, base_folder, tmp_path):
    from datasets import Dataset

    files = sorted(recordings.glob("*/[0-9].wav"))
    Dataset.from_dict({"audio": [path.read_bytes() for path in files]}).to_parquet(str(tmp_path / "t.parquet"))
    answer = speechprompt(
        *units_command(tmp_path / "t.parquet", tmp_path / "out", base_folder, "--streaming", "--json")
    )
    assert answer.code == 0, answer.err
    assert [shard["name"] for shard in answer.json["shards"]] == ["all-00000-00000.parquet"]
    assert answer.json["parts"]["all"]["recordings"] == 20


def test_a_process_without_a_number_is_refused(speechprompt, recordings, base_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    answer = speechprompt(*units_command(recordings, tmp_path / "out", base_folder))
    assert answer.code == 2 and "WORLD_SIZE is 4, but RANK is not set" in answer.err and "torchrun" in answer.err
    assert not (tmp_path / "out").exists()


def test_shards_need_a_corpus(speechprompt):
    for options in (["--shard-rows", 5], ["--streaming"]):
        answer = speechprompt("units", "a.wav", *options)
        assert answer.code == 2 and "need --dataset" in answer.err
    assert speechprompt("units", "--dataset", "d", "--output", "o", "--shard-rows", 0).code == 2


def test_an_output_that_cannot_be_a_folder_is_refused(speechprompt, recordings, base_folder, tmp_path):
    (tmp_path / "file").write_text("")
    command = units_command(recordings, tmp_path / "file" / "out", base_folder, "--shard-rows", 5)
    answer = speechprompt(*command)
    assert answer.code == 2 and str(tmp_path / "file") in answer.err and "check the path" in answer.err


def test_an_empty_corpus_is_refused(speechprompt, base_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    answer = speechprompt(*units_command(tmp_path / "empty", tmp_path / "out", base_folder, "--shard-rows", 5))
    assert answer.code == 2 and "holds no recordings" in answer.err


def test_processes_take_the_gpus_in_turn(monkeypatch):
    assert device_of("cpu", World(3, 8, 3)) == "cpu"
    monkeypatch.setattr("speechprompt_cli.corpus_shards.device_or_best", lambda device: device or "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [device_of(None, World(rank, 6, rank)) for rank in range(6)] == [f"cuda:{n}" for n in (0, 1, 2, 3, 0, 1)]
    assert device_of("cuda:2", World(0, 8, 0)) == "cuda:2"
    assert device_of(None, World()) == "cuda"


def test_the_module_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["speechprompt_hf", "--version"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("speechprompt_hf", run_name="__main__")
    assert left.value.code == 0 and capsys.readouterr().out.strip()
