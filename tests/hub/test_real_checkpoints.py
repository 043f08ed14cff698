"""Every command of docs/real-checkpoints.md, in order, against stand-ins of the published files, data sets and Hub."""

import csv
import json
import re
import shlex
import wave
from pathlib import Path

import numpy as np
import pytest

from tests.fixtures.file_server import FileServer
from tests.fixtures.published_files import UNITS, published_files

ROOT = Path(__file__).resolve().parent.parent.parent
GUIDE = (ROOT / "docs" / "real-checkpoints.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
RUN = """
import json, shlex, subprocess, sys
root, commands = sys.argv[1], json.loads(sys.argv[2])
sys.path.insert(0, root)
import pytest
from speechprompt_cli.main import main
from tests.fixtures.published_files import without_digests

without_digests(pytest.MonkeyPatch())
for command in commands:
    program, *words = shlex.split(command)
    if program == "python":
        subprocess.run([sys.executable, f"{root}/{words[0]}", *words[1:]], check=True)
        continue
    # A pass is enough to see that the command is right.
    extra = ["--epochs", "1"] if words[0] == "train" else []
    assert program == "speechprompt" and main([*words, *extra]) == 0, command
"""
SPEAKERS = ("0a7c2a8d", "1b4c9b89", "2c6d3924", "3cdecb0b", "4bba14ce")


def write_sound(path: Path, seconds: float, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).standard_normal(int(16000 * seconds)) * 3000
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())


def speech_commands(folder: Path, test_set: Path) -> None:
    """The layout of version 0.01: ten words, others, noise, two lists, and a test set of its own."""
    words = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
    lists = {"validation": [], "testing": []}
    for number, word in enumerate([*words, "bed", "cat"]):
        takes = 1 if word in words else 20
        for index, speaker in enumerate(SPEAKERS * takes):
            name = f"{word}/{speaker}_nohash_{index // len(SPEAKERS)}.wav"
            write_sound(folder / name, 0.3, 100 * number + index)
            if speaker in SPEAKERS[-2:]:
                lists["validation" if speaker == SPEAKERS[-1] else "testing"].append(name)
    write_sound(folder / "_background_noise_" / "white_noise.wav", 3, 1)
    for name, names in lists.items():
        (folder / f"{name}_list.txt").write_text("\n".join(names) + "\n")
    for number, label in enumerate([*words, "_unknown_", "_silence_"]):
        for index in range(2):
            name = (
                f"{index}.wav"
                if label == "_silence_"
                else f"{'bed_' * (label[0] == '_')}{SPEAKERS[-2]}_nohash_{index}.wav"
            )
            write_sound(test_set / label / name, 0.3, 5000 + 10 * number + index)


def fluent_speech_commands(folder: Path) -> None:
    intents = [("activate", "lights", "kitchen"), ("bring", "shoes", "none"), ("change language", "German", "none")]
    for part, speakers in (("train", SPEAKERS[:3]), ("valid", SPEAKERS[3:4]), ("test", SPEAKERS[4:])):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        with open(folder / "data" / f"{part}_data.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["", "path", "speakerId", "transcription", "action", "object", "location"])
            for index, (intent, speaker) in enumerate((intent, speaker) for intent in intents for speaker in speakers):
                path = f"wavs/speakers/{speaker}/{part}{index}.wav"
                write_sound(folder / path, 0.5, 9000 + index)
                table.writerow([index, path, speaker, "words", *intent])


@pytest.mark.slow
def test_every_command_of_the_guide_runs(hub, run_python, tmp_path):
    speech_commands(tmp_path / "speech_commands", tmp_path / "speech_commands_test")
    fluent_speech_commands(tmp_path / "fluent_speech_commands")
    with FileServer(published_files()) as server:
        done = run_python(RUN, ROOT, json.dumps(COMMANDS), env={"SPEECHPROMPT_MIRROR": server.url}, timeout=1500)
    assert f"{UNITS} units" in done.stdout
    for adapter, classes, rows in (("keywords", 12, 24), ("intents", 31, 3)):
        report = json.loads((tmp_path / adapter / "report.json").read_text())
        assert len(json.loads((tmp_path / adapter / "config.json").read_text())["id2label"]) == classes
        assert report["num_rows"]["test"] == rows
    assert {"your-name/gslm-hubert-100", "your-name/keywords"} <= set(hub.repos())
    config = json.loads(hub.read("your-name/keywords", "config.json"))
    assert config["base_model_name_or_path"] == "your-name/gslm-hubert-100"


def test_the_guide_has_the_commands_of_each_step():
    programs = [shlex.split(command)[:2] for command in COMMANDS]
    assert {tuple(words) for words in programs} == {
        ("speechprompt", "convert"),
        ("python", "docs/paper_corpora.py"),
        ("speechprompt", "train"),
        ("speechprompt", "evaluate"),
        ("speechprompt", "push-base"),
        ("speechprompt", "push"),
    }


def test_every_name_in_the_guide_is_in_the_catalogue():
    from speechprompt_hf.convert.catalogue import has_entry
    from speechprompt_hf.convert.recipes import find_recipe

    for kind, name in re.findall(r"convert (encoder|quantizer|gslm|unit-mbart|hifigan) ([a-z0-9-]+)(?= )", GUIDE):
        assert has_entry(kind, name), f"{kind} {name}"
    for name in re.findall(r"convert processor ([a-z0-9-]+)", GUIDE):
        assert find_recipe(name).name == name
