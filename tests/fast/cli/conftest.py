"""A tiny backbone and recordings for the command line; commands run in this process, as `main(arguments)`."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from speechprompt_cli.main import main


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def speechprompt(capsys, monkeypatch, tmp_path_factory):
    """Runs one command and returns its exit code and what it printed."""
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path_factory.getbasetemp() / "units"))

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> Path:
    """Two labels that differ in pitch, 12 files each of four speakers, and one broken file."""
    folder = tmp_path_factory.mktemp("data") / "recordings"
    generator = np.random.default_rng(0)
    lines = ["file_name,label,speaker"]
    for label, pitch in (("low", 200), ("high", 1500)):
        (folder / label).mkdir(parents=True)
        for index in range(12):
            time = np.arange(int(generator.integers(6000, 9000))) / 16000
            wave = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.02 * generator.standard_normal(len(time))
            soundfile.write(folder / label / f"{index}.wav", wave.astype(np.float32), 16000)
            lines.append(f"{label}/{index}.wav,{label},speaker{index % 4}")
    (folder / "low" / "broken.wav").write_bytes(b"this is no sound")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    HubertModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base_folder(recordings, encoder_folder, tmp_path_factory) -> Path:
    """What quantize, units and pretrain make of the recordings: a whole backbone."""
    work = tmp_path_factory.mktemp("base")
    steps = [
        ["quantize", "--dataset", recordings, "--encoder", encoder_folder, "--layer", 1, "--clusters", 12],
        ["units", "--dataset", recordings, "--base", work / "units_base"],
        ["pretrain", "--dataset", work / "units", "--base", work / "units_base", "--steps", 30, "--layers", 2],
    ]
    steps[0] += ["--output", work / "units_base"]
    steps[1] += ["--output", work / "units"]
    steps[2] += ["--output", work / "whole", "--width", 32, "--heads", 2, "--tokens-per-step", 400]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPEECHPROMPT_CACHE", str(work / "cache"))
        for step in steps:
            assert main([str(argument) for argument in step]) == 0, step[0]
    return work / "whole"


@pytest.fixture(scope="session")
def adapter_folder(recordings, base_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPEECHPROMPT_CACHE", str(folder.parent / "cache"))
        command = ["train", "--dataset", recordings, "--output", folder, "--base", base_folder, "--epochs", 8]
        assert main([str(argument) for argument in command]) == 0
    return folder
