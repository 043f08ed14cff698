"""A generation killed by SIGKILL at random moments leaves whole files alone, and ends as an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

from tests.fixtures.effort import rounds
from tests.fixtures.speech_generation import save_speaking_folders, write_noises

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

NUM_KILLS, NUM_FILES = rounds(2, 20), rounds(100, 400)


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    folder = save_speaking_folders(tmp_path_factory.mktemp("kills"))
    write_noises(folder / "noises", NUM_FILES)
    (folder / "noises" / "noise07.wav").write_bytes(b"this is no sound")
    return folder


def start(work: Path, output: Path, root: Path) -> subprocess.Popen:
    files = sorted(map(str, (work / "noises").glob("*.wav")))
    options = ["--output", str(output), "--prompt-seconds", "0.2", "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, "-m", "speechprompt_cli", "generate", str(work / "adapter"), *files, *options],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def contents(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(output.iterdir()) if not path.name.startswith(".")}


def check_whole(output: Path, undisturbed: dict[str, bytes]) -> int:
    """Every file that has its name is the whole one; the lines are whole and of files that are there."""
    for name, content in contents(output).items():
        if name.endswith(".wav"):
            soundfile.read(output / name)
            assert content == undisturbed[name], name
        elif name == "generations.jsonl":
            lines = [json.loads(line) for line in content.decode().splitlines()]
            assert content.endswith(b"\n") or not content
            assert all((output / line["output"]).is_file() for line in lines)
        else:
            assert content == undisturbed[name], name
    return len(list(output.glob("*.wav")))


def test_kills_at_random_moments(work, project_root, tmp_path):
    first = start(work, tmp_path / "undisturbed", project_root)
    while not (tmp_path / "undisturbed" / "generation.json").exists():
        time.sleep(0.01)
    began = time.monotonic()
    assert first.wait() == 2  # the file that is no sound
    seconds = time.monotonic() - began
    undisturbed = contents(tmp_path / "undisturbed")
    assert len(undisturbed) == NUM_FILES - 1 + 2
    draw, output, counts = random.Random(0), tmp_path / "killed", []
    for _ in range(NUM_KILLS):
        process = start(work, output, project_root)
        stamp = output / "generation.json"
        before = stamp.stat().st_mtime_ns if stamp.exists() else 0
        while process.poll() is None and (not stamp.exists() or stamp.stat().st_mtime_ns == before):
            time.sleep(0.005)
        # Moments of all of its work, which is so long divided by the kills.
        time.sleep(draw.uniform(0, 1.2 * seconds / NUM_KILLS))
        process.send_signal(signal.SIGKILL)
        assert process.wait() in (-signal.SIGKILL, 2)
        counts.append(check_whole(output, undisturbed))
    assert counts == sorted(counts) and counts[0] < NUM_FILES - 1
    assert start(work, output, project_root).wait() == 2
    assert contents(output) == undisturbed
    assert not [path.name for path in output.iterdir() if path.name.startswith(".") and path.name != ".lock"]
