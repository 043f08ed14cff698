"""Training and pretraining, alone and on two gloo processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.effort import thorough
from tests.fixtures.taught_shards import write_made_up_shard
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
import json, shutil, sys
from pathlib import Path
import numpy as np
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.pretraining import checkpoints, processes

architecture, output, mode = sys.argv[1:]
save, wrap = checkpoints.ResumableRun.save, processes.Processes.wrap

def save_and_keep(run):
    save(run)
    shutil.copy(run.output / "checkpoint.pt", run.output / f"checkpoint-{run.step}.pt")

def wrap_and_tell(self, model):
    wrapped = wrap(self, model)
    held = sum(getattr(p, "to_local", lambda p=p: p)().numel() for p in model.parameters())
    every = sum(p.numel() for p in model.parameters())
    Path(output, f"held-{self.rank}.json").write_text(json.dumps([held, every]))
    return wrapped

checkpoints.ResumableRun.save, processes.Processes.wrap = save_and_keep, wrap_and_tell
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


CASES = [("gslm", "packed"), ("unit-mbart", "utterance")]
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


@pytest.fixture
def pretrain(project_root, tmp_path, monkeypatch):
    script = tmp_path / "pretraining.py"
    script.write_text(PRETRAINING)

    def start(name, architecture, mode, *, processes=1, environment=(), checkpoint=None):
        """Log of a run, checkpoints by step, and how many parameters each process held, of how many."""
        folder = tmp_path / name
        folder.mkdir()
        if checkpoint is not None:
            torch.save(checkpoint, folder / "checkpoint.pt")
        for key, value in dict(environment).items():
            monkeypatch.setenv(key, value)
        command = [sys.executable] if processes == 1 else two_processes(str(script))[:-1]
        run([*command, str(script), architecture, str(folder), mode], project_root)
        for key in dict(environment):
            monkeypatch.delenv(key)
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        saved = {
            int(path.stem.split("-")[1]): torch.load(path, weights_only=True)
            for path in folder.glob("checkpoint-*.pt")
        }
        assert load_file(folder / "model.safetensors")
        held = [json.loads(path.read_text()) for path in sorted(folder.glob("held-*.json"))]
        assert len(held) == processes
        return log, saved, held

    return start


def assert_same_run(left, right):
    """Equal but for rounding: Adam divides by the root of small second moments."""
    assert [entry["step"] for entry in left[0]] == [entry["step"] for entry in right[0]]
    for one, other in zip(left[0], right[0], strict=True):
        names = {"loss", "validation_loss"} & one.keys()
        assert names and names == {"loss", "validation_loss"} & other.keys()
        for name in names:
            assert one[name] == pytest.approx(other[name], abs=2e-4)
    one, other = left[1][12], right[1][12]
    assert one["tokens"] == other["tokens"]
    assert one["model"].keys() == other["model"].keys()
    for name, value in one["model"].items():
        torch.testing.assert_close(other["model"][name], value, atol=2e-3, rtol=1e-3)


def assert_equal_states(left, right):
    assert left["model"].keys() == right["model"].keys()
    for name, value in left["model"].items():
        assert torch.equal(right["model"][name], value), name
    moments, others = (state["optimizer"]["state"] for state in (left, right))
    assert moments.keys() == others.keys() and moments
    for index, values in moments.items():
        for name, value in values.items():
            assert torch.equal(others[index][name], value), (index, name)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("architecture", "mode"), CASES)
def test_pretraining_on_two_processes_is_that_of_one(pretrain, architecture, mode):
    alone = pretrain("alone", architecture, mode)
    both = pretrain("both", architecture, mode, processes=2)
    assert_same_run(alone, both)
    assert all(held == every for held, every in both[2])


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("architecture", "mode"), [pytest.param(*CASES[0], marks=thorough), CASES[1]])
def test_pretraining_shards_parameters_and_resumes_with_any_number_of_processes(pretrain, architecture, mode):
    alone = pretrain("alone", architecture, mode)
    sharded = pretrain("sharded", architecture, mode, processes=2, environment=FSDP)
    assert_same_run(alone, sharded)
    assert all(held < 0.6 * every for held, every in sharded[2])
    # A stop after step 10: as if nothing had happened, and with another number of processes but for rounding.
    options = {"checkpoint": sharded[1][10]}
    again = pretrain("again", architecture, mode, processes=2, environment=FSDP, **options)
    assert_equal_states(again[1][12], sharded[1][12])
    fewer = pretrain("fewer", architecture, mode, **options)
    for name, value in sharded[1][12]["model"].items():
        torch.testing.assert_close(fewer[1][12]["model"][name], value, atol=2e-3, rtol=1e-3)
    more = pretrain("more", architecture, mode, processes=2, environment=FSDP, checkpoint=alone[1][10])
    for name, value in alone[1][12]["model"].items():
        torch.testing.assert_close(more[1][12]["model"][name], value, atol=2e-3, rtol=1e-3)


DISTILLATION = """
import sys
from speechprompt_hf.pretraining.distillation import distill
from tests.fixtures.taught_shards import settings

shard, output, clusters = sys.argv[1:]
# Steps of 8 and 4 crops, and of one: fewer than processes.
config = settings(crop_frames=(20, 40, 160), validate_every=4, num_units=int(clusters))
distill([shard], output, config, validation=[shard], device="cpu", show_progress=False)
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("num_units", [0, 8])
def test_distillation_on_two_processes_is_that_of_one(project_root, tmp_path, num_units):
    shard = str(write_made_up_shard(tmp_path / "shard", seed=3))
    script = tmp_path / "distillation.py"
    script.write_text(DISTILLATION)
    run([sys.executable, str(script), shard, str(tmp_path / "alone"), str(num_units)], project_root)
    run(two_processes(str(script), shard, str(tmp_path / "both"), str(num_units)), project_root)
    alone, both = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("alone", "both")
    )
    assert [entry["step"] for entry in alone] == [entry["step"] for entry in both] and len(alone) == 4
    for one, other in zip(alone, both, strict=True):
        for name in one.keys() - {"seconds", "steps_per_second"}:
            assert other[name] == pytest.approx(one[name], rel=1e-3, abs=1e-3), name
    ours, theirs = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["student"] for name in ("alone", "both")
    )
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, atol=2e-3, rtol=2e-3, msg=name)
