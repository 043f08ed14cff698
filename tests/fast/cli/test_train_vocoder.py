"""`speechprompt train-vocoder`: recordings to a vocoder that opens, goes on, and says what is wrong."""

import json

import pytest
import torch
from transformers import AutoModel

from speechprompt_hf import SpeechUnitProcessor

SMALL = ("--width", "16", "--layers", "1", "--batch-size", "2", "--segment-seconds", "0.3")
JUDGES = ("--discriminator-seconds", "0.2", "--discriminator-width", "0.02", "--adversarial-start", "1")


def test_recordings_become_a_vocoder_that_goes_on(speechprompt, recordings, tmp_path, monkeypatch):
    command = ("train-vocoder", "--dataset", recordings, "--output", tmp_path / "out", *SMALL, *JUDGES, "--json")
    devices, move = [], SpeechUnitProcessor.to
    with monkeypatch.context() as patched:
        patched.setattr(
            SpeechUnitProcessor, "to", lambda self, device: devices.append(str(device)) or move(self, device)
        )
        answer = speechprompt(*command, "--steps", "2", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert devices == ["cpu"]
    assert answer.json["updates"] == 2 and "24 recordings" in answer.err
    vocoder = AutoModel.from_pretrained(tmp_path / "out")
    assert answer.json["parameters"] == vocoder.num_parameters()
    processor = SpeechUnitProcessor.from_pretrained("speechprompt-hf/tiny-hubert-km100-gslm")
    assert vocoder.config.fingerprint["digest"] == processor.fingerprint["digest"]
    [sequence] = processor.encode_units([recordings / "low" / "0.wav"])
    with torch.no_grad():
        found = vocoder(torch.from_numpy(sequence.units)[None])
    assert found.waveform.isfinite().all() and int(found.durations.sum()) >= len(sequence)
    assert "speech units to 16000 Hz speech" in (tmp_path / "out" / "README.md").read_text()
    card = tmp_path / "out" / "README.md"
    card.write_text(card.read_text() + "By hand.")
    fewer = speechprompt(*command, "--steps", "1")
    assert fewer.code == 0 and "nothing to train" in fewer.err
    assert fewer.json == answer.json and card.read_text().endswith("By hand.")
    card.unlink()
    speechprompt(*command, "--steps", "2")
    assert "\n2 updates" in card.read_text()
    again = speechprompt(*command, "--steps", "3")
    assert again.code == 0 and again.json["updates"] == 3
    other = speechprompt(*command, "--steps", "3", "--seed", "1")
    assert other.code == 2 and "was written with other settings: seed (was 0, is 1)" in other.err


def test_voices_are_told_apart(speechprompt, recordings, tmp_path):
    command = ("train-vocoder", "--dataset", recordings, "--output", tmp_path / "out", *SMALL)
    judges = ("--discriminator", "periods", "--discriminator", "scales", *JUDGES)
    answer = speechprompt(*command, *judges, "--adversarial-start", "0", "--speaker-column", "speaker", "--steps", "1")
    assert answer.code == 0, answer.err
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["num_scales"] == 3 and settings["spectrum_windows"] == []
    assert AutoModel.from_pretrained(tmp_path / "out").config.num_speakers == 4
    missing = speechprompt(*command, *judges, "--speaker-column", "voice", "--steps", "1")
    assert missing.code == 2 and "there is no column 'voice'" in missing.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--architecture", "hifigan", "--layers", "2"), "--layers belongs to --architecture vocos"),
        (("--architecture", "wavenet"), "'wavenet' is not one of"),
        (("--discriminator", "everything"), "'everything' is not one of"),
        (("--steps", "0"), "should be greater than or equal to 1"),
        (("--segment-seconds", "0"), "'--segment-seconds'"),
        (("--dataset", "/nowhere/at/all"), "there is no folder or file"),
        (("--base", "/nowhere/at/all"), "/nowhere/at/all"),
    ],
)
def test_mistakes_are_named(speechprompt, recordings, tmp_path, options, words):
    answer = speechprompt("train-vocoder", "--dataset", recordings, "--output", tmp_path / "out", *options)
    assert answer.code == 2 and words in " ".join(answer.err.split())
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_units_alone_are_refused(speechprompt, tmp_path):
    from datasets import Dataset

    Dataset.from_dict({"units": [[1, 2]]}).to_parquet(tmp_path / "rows.parquet")
    answer = speechprompt("train-vocoder", "--dataset", tmp_path / "rows.parquet", "--output", tmp_path / "out")
    assert answer.code == 2 and "this corpus holds no recordings" in answer.err
