"""benchmarks/keyword_and_intent.py: one language model a work folder, and a table of all cells of its settings."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.training import TrainingSettings


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    import keyword_and_intent
    import paper_units

    yield SimpleNamespace(cells=keyword_and_intent, units=paper_units)
    for name in ("keyword_and_intent", "paper_units"):
        del sys.modules[name]


def plan_of(benchmark, folder, **changes):
    splits = SimpleNamespace(train=range(50), validation=range(10))
    values = {
        "key": "KS",
        "splits": splits,
        "settings": TrainingSettings(num_epochs=6),
        "fingerprint": {"weights": "w"},
    }
    return benchmark.cells.Plan(**{**values, "folder": folder, **changes})


def write_cells(plan, seeds):
    for name in plan.methods:
        for seed in seeds:
            cell = {"task": plan.key, "method": name, "seed": seed, "test": 0.5}
            plan.path(name, seed).write_text(json.dumps(cell))


def test_the_table_holds_all_cells_of_the_settings_and_no_others(benchmark, tmp_path):
    plan = plan_of(benchmark, tmp_path)
    write_cells(plan, [11, 0, 4])
    write_cells(plan_of(benchmark, tmp_path, settings=TrainingSettings(num_epochs=7)), [0])
    write_cells(plan_of(benchmark, tmp_path, fingerprint={"weights": "v"}), [0])
    write_cells(plan_of(benchmark, tmp_path, key="IC"), [0])
    found = plan.finished()
    assert [(cell["method"], cell["seed"]) for cell in found] == [
        (name, seed) for name in plan.methods for seed in (0, 4, 11)
    ]
    assert {cell["task"] for cell in found} == {"KS"}


def test_cells_that_are_there_are_not_run_again(benchmark, tmp_path, monkeypatch):
    (tmp_path / "cells").mkdir()
    plan = plan_of(benchmark, tmp_path / "cells")
    ran = []

    def run_cell(task, splits, base, settings, output, seed):
        ran.append((settings.prompt, settings.readout, seed))
        return {"test": 0.25}

    monkeypatch.setattr(benchmark.cells, "run_cell", run_cell)
    for seeds in ([1], [1, 2]):
        benchmark.cells.run_plan(plan, None, "base", tmp_path, seeds, "input prompt, learnable")
    assert ran == [
        ("input", "separator", 1),
        ("input", "pooled", 1),
        ("input", "separator", 2),
        ("input", "pooled", 2),
    ]
    assert len(plan.finished()) == 4


def test_one_language_model_is_made_whole_and_once(benchmark, tmp_path, monkeypatch):
    units, made = benchmark.units, []

    def pretrain(data_root, folder, config):
        # Another process that asks now would wait; nothing half done has the final name.
        assert not (tmp_path / "gslm").exists()
        assert not can_lock(units, tmp_path)
        folder.mkdir(exist_ok=True)
        made.append(sorted(path.name for path in folder.iterdir()))
        (folder / "model.safetensors").write_bytes(b"x")
        (folder / "settings.json").write_text(json.dumps(units.asdict(config)))

    monkeypatch.setattr(units, "pretrain", pretrain)
    (tmp_path / "gslm").mkdir()
    (tmp_path / "gslm" / "checkpoint.pt").write_bytes(b"of an earlier version")
    for _ in range(2):
        assert units.language_model(tmp_path, tmp_path) == str(tmp_path / "gslm")
    assert made == [["checkpoint.pt"]]
    assert {path.name for path in tmp_path.iterdir()} == {"gslm", "locks"}
    with pytest.raises(ConfigurationError, match="other settings: num_steps"):
        units.language_model(tmp_path, tmp_path, replace(units.LANGUAGE_MODEL, num_steps=7))
    (tmp_path / "gslm" / "settings.json").unlink()
    units.language_model(tmp_path, tmp_path, replace(units.LANGUAGE_MODEL, num_steps=7))


def can_lock(units, work):
    from filelock import Timeout

    try:
        units.locked(work, "gslm").acquire(timeout=0).release()
    except Timeout:
        return False
    return True
