"""A corpus run killed by SIGKILL at random moments ends with the shards of an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset, Features, Value

from speechprompt_hf.data.sources import AUDIO_FEATURE
from tests.fixtures.effort import rounds, thorough
from tests.fixtures.unit_tasks import save_audio_base

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NUM_KILLS = {"files": rounds(6, 20), "tables": rounds(3, 6)}


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A toy base, and 150 recordings of 1 to 6 s, one of them corrupt, as files and as Parquet."""
    folder = tmp_path_factory.mktemp("kills")
    save_audio_base(folder / "base")
    generator = np.random.default_rng(0)
    files = []
    for number in range(150):
        path = folder / "files" / ("low", "high")[number % 2] / f"{number:03d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * generator.standard_normal(int(16000 * generator.uniform(1, 6))), 16000)
        files.append(path)
    files[70].write_bytes(b"this is no sound")
    (folder / "tables").mkdir()
    features = Features({"audio": AUDIO_FEATURE, "label": Value("string")})
    for number, start in enumerate((0, 100)):
        part = files[start : start + 100]
        rows = {
            "audio": [{"bytes": path.read_bytes(), "path": path.name} for path in part],
            "label": [path.parent.name for path in part],
        }
        table = Dataset.from_dict(rows, features=features).cast_column("audio", Audio(decode=False))
        table.to_parquet(str(folder / "tables" / f"all-{number}.parquet"))
    return folder


def command(work: Path, output: Path, source: str) -> list[str]:
    options = ["--streaming"] if source == "tables" else []
    options += ["--dataset", str(work / source), "--output", str(output), "--base", str(work / "base")]
    return ["-m", "speechprompt_hf", "units", *options, "--shard-rows", "4", "--device", "cpu"]


def environment(root: Path, **values: object) -> dict[str, str]:
    fixed = {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in values.items()}}
    return {**os.environ, **fixed}


class Started:
    """One process of a run, which tells when its work begins."""

    def __init__(self, work: Path, output: Path, source: str, root: Path, rank: int, size: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command(work, output, source)],
            env=environment(root, RANK=rank, WORLD_SIZE=size),
            cwd=root,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self.lines: list[str] = []
        self.begins = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stderr:
            self.lines.append(line)
            if "recordings" in line:
                self.begins.set()
        self.begins.set()

    def kill(self) -> bool:
        """Whether it was still at work."""
        self._process.send_signal(signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def wait(self) -> int:
        code = self._process.wait()
        self._reader.join()
        self._process.stderr.close()
        return code


def contents(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(output.iterdir()) if not path.name.startswith(".")}


def shard_times(output: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in output.glob("all-*.parquet")}


@pytest.mark.parametrize("source", ["files", pytest.param("tables", marks=thorough)])
def test_kills_at_random_moments(work, project_root, tmp_path, source):
    undisturbed = Started(work, tmp_path / "undisturbed", source, project_root, 0, 1)
    undisturbed.begins.wait()
    started = time.monotonic()
    assert undisturbed.wait() == 0, undisturbed.lines
    seconds = time.monotonic() - started

    draw, output, kills, kept = random.Random(20), tmp_path / "killed", 0, {}
    while kills < NUM_KILLS[source]:
        size = draw.choice((1, 2))
        run = [Started(work, output, source, project_root, rank, size) for rank in range(size)]
        for process in run:
            process.begins.wait()
        time.sleep(draw.uniform(0, seconds / 8))
        kills += any([process.kill() for process in run])
        now = shard_times(output)
        assert {name: now.get(name) for name in kept} == kept, "a finished shard was lost or made again"
        if len(now) > 0.9 * len(shard_times(tmp_path / "undisturbed")):
            # So far that the next kill could come too late: some of the shards are taken away.
            for name in draw.sample(sorted(now), len(now) // 2):
                (output / name).unlink()
        kept = shard_times(output)
    last = [Started(work, output, source, project_root, rank, 3) for rank in range(3)]
    assert [process.wait() for process in last] == [0, 0, 0], [process.lines for process in last]
    assert contents(output) == contents(tmp_path / "undisturbed")
    assert {name: shard_times(output)[name] for name in kept} == kept
    # What killed processes left behind goes as soon as no process can be writing it any more.
    for path in output.glob(".*"):
        os.utime(path, (0, 0))
    assert Started(work, output, source, project_root, 0, 1).wait() == 0
    assert not list(output.glob(".*")), "a killed process's traces are left"


def torchrun(work: Path, output: Path, root: Path, size: int) -> subprocess.Popen:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(size)]
    arguments = command(work, output, "files")
    return subprocess.Popen(
        [*launcher, *arguments],
        env=environment(root),
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_processes_of_torchrun_make_the_shards_of_one_process(work, project_root, tmp_path):
    alone = Started(work, tmp_path / "alone", "files", project_root, 0, 1)
    assert alone.wait() == 0, alone.lines
    both = torchrun(work, tmp_path / "both", project_root, 2)
    said = both.communicate()[0]
    assert both.returncode == 0, said
    assert "process 0 of 2: 19 shards made" in said and "process 1 of 2: 19 shards made" in said
    assert contents(tmp_path / "both") == contents(tmp_path / "alone")

    # One of two workers is killed: the launcher ends the other one, and three go on.
    output = tmp_path / "killed"
    run = torchrun(work, output, project_root, 2)
    while len(list(output.glob("all-*.parquet"))) < 3:
        assert run.poll() is None
        time.sleep(0.02)
    worker = int(Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()[0])
    os.kill(worker, signal.SIGKILL)
    run.communicate()
    assert run.returncode != 0
    kept = shard_times(output)
    assert 3 <= len(kept) < 38
    again = torchrun(work, output, project_root, 3)
    said = again.communicate()[0]
    assert again.returncode == 0, said
    assert contents(output) == contents(tmp_path / "alone")
    assert {name: shard_times(output)[name] for name in kept} == kept
