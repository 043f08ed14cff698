"""Training and pretraining, alone and on two gloo processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.unit_tasks import save_tiny_base, unit_task_splits

pytestmark = pytest.mark.slow

# `train` on made-up units; the batch is that of one process.
SCRIPT = """
import sys
from tests.fixtures.unit_tasks import unit_task_splits
from speechprompt_hf.tasks import task_from_labels
from speechprompt_hf.training import TrainingSettings, train

base, output, batch_size = sys.argv[1:]
splits = unit_task_splits()
settings = TrainingSettings(
    num_epochs=2, batch_size=int(batch_size), unit_dropout=0.0, prompt_dropout=0.0, num_virtual_tokens=3
)
result = train(task_from_labels(splits.train["label"]), splits, base, settings, output_dir=output, use_cpu=True)
print("accuracy", result.validation_metric)
"""


def run(command: list[str], root: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    return finished.stdout


def two_processes(script: str, *arguments: str) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return [*launcher, script, *arguments]


def largest_difference(left: Path, right: Path) -> float:
    differences = []
    for name in ("adapter_model.safetensors", "verbalizer.safetensors"):
        first, second = load_file(left / name), load_file(right / name)
        assert first.keys() == second.keys()
        differences += [float((first[key].float() - second[key].float()).abs().max()) for key in first]
    return max(differences)


@pytest.mark.timeout(900)
def test_plain_trainer_script_alone_and_on_two_processes(project_root, tmp_path):
    script = str(project_root / "docs" / "train_with_trainer.py")
    assert len(Path(script).read_text().splitlines()) < 60
    alone = run([sys.executable, script, "--output", str(tmp_path / "alone")], project_root)
    both = run(two_processes(script, "--output", str(tmp_path / "both"), "--world-size", "2"), project_root)
    lines = [text.strip().splitlines()[-1].split(", saved")[0] for text in (alone, both)]
    assert lines[0] == lines[1] and lines[0].startswith("accuracy")
    # Gradients are averaged in another order.
    assert largest_difference(tmp_path / "alone", tmp_path / "both") < 1e-3


@pytest.mark.timeout(900)
def test_script_notices_that_one_process_was_started_instead_of_two(project_root, tmp_path):
    command = [sys.executable, "docs/train_with_trainer.py", "--output", str(tmp_path), "--world-size", "2"]
    with pytest.raises(AssertionError, match="start two processes with torchrun"):
        run(command, project_root)


@pytest.mark.timeout(900)
def test_script_trains_on_parquet_and_a_base_folder(project_root, tmp_path):
    base = save_tiny_base(tmp_path / "base")
    splits = unit_task_splits(32, 16)
    (tmp_path / "units").mkdir()
    for name, rows in splits.items():
        rows.to_parquet(str(tmp_path / "units" / f"{name}.parquet"))
    # The tiny base knows 26 units, the script's vocabulary 100: ids below 30 are the same.
    options = ["--base", str(base), "--units", str(tmp_path / "units"), "--output", str(tmp_path / "adapter")]
    assert "trained parameters" in run([sys.executable, "docs/train_with_trainer.py", *options], project_root)


@pytest.mark.timeout(900)
def test_train_on_two_processes_gives_the_single_process_result(project_root, tmp_path):
    base = save_tiny_base(tmp_path / "base")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    alone = run([sys.executable, str(script), str(base), str(tmp_path / "alone"), "8"], project_root)
    both = run(two_processes(str(script), str(base), str(tmp_path / "both"), "4"), project_root)
    assert set(both.strip().splitlines()) == set(alone.strip().splitlines())
    # Gradients are averaged in another order; Adam divides by the root of small second moments.
    assert largest_difference(tmp_path / "alone", tmp_path / "both") < 1e-3


PRETRAINING = """
import sys
import numpy as np
from speechprompt_hf.core.vocabulary import UnitVocabulary

architecture, output, mode = sys.argv[1:]
generator = np.random.default_rng(0)
units = [((generator.integers(10) + np.arange(generator.integers(4, 15))) % 10).tolist() for _ in range(61)]
sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "dropout": 0.0}
values = {"num_steps": 12, "tokens_per_step": 150, "max_tokens": 32, "warm_up_steps": 3, "checkpoint_every": 5}
values |= {"validate_every": 6, "bf16": False}
given = {"vocabulary": UnitVocabulary.from_num_units(10), "validation": units[:9], "show_progress": False}
if architecture == "gslm":
    from speechprompt_hf.pretraining.gslm_pretraining import PretrainingConfig, pretrain_gslm

    sizes["attention_dropout"] = 0.0
    pretrain_gslm(units, output, PretrainingConfig(**values, break_mode=mode, model=sizes), device="cpu", **given)
else:
    from speechprompt_hf.pretraining.unit_mbart_pretraining import UnitMBartPretrainingConfig, pretrain_unit_mbart

    sizes["num_encoder_layers"] = 1
    pretrain_unit_mbart(units, output, UnitMBartPretrainingConfig(**values, model=sizes), device="cpu", **given)
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("architecture", "mode"), [("gslm", "packed"), ("unit-mbart", "utterance")])
def test_pretraining_on_two_processes_is_that_of_one(project_root, tmp_path, architecture, mode):
    script = tmp_path / "pretraining.py"
    script.write_text(PRETRAINING)
    alone, both = tmp_path / "alone", tmp_path / "both"
    run([sys.executable, str(script), architecture, str(alone), mode], project_root)
    run(two_processes(str(script), architecture, str(both), mode), project_root)
    logs = [[json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()] for folder in (alone, both)]
    assert [entry["step"] for entry in logs[0]] == [entry["step"] for entry in logs[1]]
    for left, right in zip(*logs, strict=True):
        for name in left.keys() & {"loss", "validation_loss"}:
            assert left[name] == pytest.approx(right[name], abs=2e-4)
    states = [torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (alone, both)]
    assert states[0]["tokens"] == states[1]["tokens"]
    for name, value in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], value, atol=2e-3, rtol=1e-3)
    left, right = (load_file(folder / "model.safetensors") for folder in (alone, both))
    assert left.keys() == right.keys()
