"""Processes that share a work folder: no cell twice, none lost to SIGKILL, the same tables."""

import csv
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.fixtures.effort import rounds, thorough
from tests.fixtures.unit_tasks import save_tiny_base

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SUITE = """
datasets:
  - {name: words, synthetic: {rows: 60}, protocol: {kind: grouped, folds: 3}}
methods: [majority, tfidf, {name: prompt, like: deep-learnable}]
baseline: tfidf
seeds: [0, 1, 2]
settings: {num_epochs: 4, num_virtual_tokens: 2}
"""
NUM_CELLS = 3 + 3 + 9
MEASURED = ("seconds", "cpu_seconds", "memory_before", "peak_memory", "cuda_peak_memory")


@pytest.fixture
def bench(project_root, tmp_path):
    """Starts `speechprompt bench` on the suite; returns the process."""
    base = save_tiny_base(tmp_path / "base")
    suite = tmp_path / "mine.yaml"
    suite.write_text(SUITE)
    environment = {**os.environ, "PYTHONPATH": str(project_root), "OMP_NUM_THREADS": "1"}

    def start(work, output, *launcher):
        command = [*(launcher or (sys.executable, "-m", "speechprompt_hf")), "bench", suite, "--base", base]
        command += ["--work", tmp_path / work, "--output", tmp_path / output, "--device", "cpu"]
        return subprocess.Popen(
            [str(word) for word in command],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def finish(process):
    """What it printed, once it has ended well."""
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed[-3000:]
    return printed


def table(tmp_path, output):
    """The CSV without what is measured anew."""
    with open(tmp_path / output / "mine" / "cells.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == NUM_CELLS
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


def num_computed(printed):
    return len(re.findall(r", seed \d+: accuracy", printed))


def test_two_processes_share_the_work(bench, tmp_path):
    both = [bench("work", "a"), bench("work", "b")]
    printed = [finish(process) for process in both]
    assert sum(map(num_computed, printed)) == NUM_CELLS
    assert all(map(num_computed, printed))
    assert table(tmp_path, "a") == table(tmp_path, "b")


@thorough
def test_a_launcher_s_processes_share_the_work(bench, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    printed = finish(bench("work", "launched", *launcher, "-m", "speechprompt_hf"))
    assert num_computed(printed) == NUM_CELLS
    # One table alone is printed.
    assert printed.count("# mine") == 1
    finish(bench("other", "alone"))
    assert table(tmp_path, "launched") == table(tmp_path, "alone")


def test_killed_at_any_moment_it_goes_on(bench, tmp_path):
    undisturbed = finish(bench("whole", "whole"))
    assert num_computed(undisturbed) == NUM_CELLS
    cells = tmp_path / "killed" / "cells"
    for wanted in (1, 5, 8)[-rounds(1, 3) :]:
        process = bench("killed", "killed")
        while len(list(cells.rglob("*.json"))) < wanted and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None, "it was done before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.communicate()
    there = len([path for path in cells.rglob("*.json") if not path.name.startswith(".")])
    assert 8 <= there < NUM_CELLS
    printed = finish(bench("killed", "killed"))
    assert num_computed(printed) == NUM_CELLS - there
    assert table(tmp_path, "killed") == table(tmp_path, "whole")
    # Nothing is left that a reader could take for a cell.
    assert len([path for path in cells.rglob("*.json") if not path.name.startswith(".")]) == NUM_CELLS
