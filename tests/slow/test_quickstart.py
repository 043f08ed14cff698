"""The quick start as a newcomer runs it, and README's Python example on its recordings."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="module")
def answer(folder):
    pytest.importorskip("espeakng_loader", reason="the extra quickstart is not installed")
    command = [sys.executable, "-m", "speechprompt_cli", "quickstart", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SPEECHPROMPT_CACHE": str(folder / "cache")}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "synthetic" in done.stderr and "GPL-3" in done.stderr
    return json.loads(done.stdout)


def test_it_beats_chance_on_voices_that_training_did_not_hear(answer):
    report = answer["report"]
    assert report["data"]["speakers_apart"] is True
    assert report["baselines"]["majority"]["accuracy"] == pytest.approx(0.1)
    assert report["accuracy_interval"][0] > 0.6
    assert report["accuracy"] > report["baselines"]["tfidf"]["accuracy"] - 0.1


def test_training_is_short_and_small(answer):
    assert answer["report"]["seconds"] < 180
    assert answer["report"]["trained_parameters"] <= 150_000


def test_the_adapter_opens_in_a_new_process(answer):
    opened = answer["opened"]
    assert opened["class"] == "SpeechPromptForAudioClassification"
    assert opened["label"] in answer["report"]["task"]["labels"]
    assert "speechprompt train --dataset" in answer["next"]


def test_the_python_example_runs_on_its_recordings(answer, folder):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SPEECHPROMPT_CACHE": str(folder / "cache")}
    done = subprocess.run([sys.executable, "-c", example], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert lines[-1] in answer["report"]["task"]["labels"]
    assert lines[0].split()[0] == str(answer["report"]["accuracy"])  # CLI and Python agree to the last digit
