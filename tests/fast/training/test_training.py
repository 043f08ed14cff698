import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import TrainerCallback

from speechprompt_hf import GSLMForCausalLM, SpeechPromptForAudioClassification
from speechprompt_hf.core.errors import ConfigurationError, LabelError, UnitError
from speechprompt_hf.data import Splits
from speechprompt_hf.tasks import Task, task_from_labels
from speechprompt_hf.training import LengthGroupedSampler, TrainingSettings, train
from tests.fixtures.tiny_models import PEFT_WARNING, count_calls
from tests.fixtures.unit_tasks import LABELS

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)

# Row order only: no dropout, so that runs can be compared number by number.
EXACT = TrainingSettings(
    num_epochs=2, unit_dropout=0.0, prompt_dropout=0.0, batch_size=8, patience=9, num_virtual_tokens=3
)


def run(base, splits, folder, settings=EXACT, **options):
    task = task_from_labels(splits.train["label"])
    return train(task, splits, base, settings, output_dir=folder, progress=False, **options)


def trained(model):
    return {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}


def largest_difference(left, right):
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


class StoppedError(Exception):
    pass


class StopAtTheFirstSave(TrainerCallback):
    def on_save(self, args, state, control, **kwargs):
        raise StoppedError


@pytest.fixture(scope="module")
def first_run(base, splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    return run(base, splits, folder / "adapter"), folder / "adapter"


def test_a_prompt_learns_and_only_its_parts_change(base, splits, tmp_path):
    settings = TrainingSettings(num_epochs=12, num_virtual_tokens=4, learning_rate=2e-2)
    before = SpeechPromptForAudioClassification.from_base(base, ["a", "b"]).lm.state_dict()
    result = run(base, splits, tmp_path, settings)
    assert result.validation_metric > 0.6, result.history
    after = result.model.lm.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    names = {name.split(".")[0] for name in trained(result.model)}
    assert names == {"prompt", "verbalizer"}
    expected = 2 * 2 * 4 * 32 + 32 + 3 * 2 * 30
    assert result.trained_parameters == expected == result.model.num_trained_parameters()


def test_the_adapter_is_small_complete_and_opens_with_the_same_scores(first_run):
    result, folder = first_run
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "config.json",
        "dict.txt",
        "verbalizer.safetensors",
    ]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    opened = SpeechPromptForAudioClassification.from_pretrained(folder)
    ids = torch.tensor([[2, 7, 11, 23, 0]])
    assert (opened(ids).logits - result.model(ids).logits).abs().max() < 1e-5
    assert result.model.config.id2label == {0: "left", 1: "right", 2: "stop"}


def test_history_has_an_entry_an_epoch(first_run):
    result, _ = first_run
    assert [entry["epoch"] for entry in result.history] == [1.0, 2.0]
    for entry in result.history:
        assert 0 <= entry["validation_accuracy"] <= 1 and math.isfinite(entry["train_loss"])
    assert result.num_epochs == 2 and result.seconds > 0
    assert json.loads(json.dumps(result.settings))["num_virtual_tokens"] == 3


def test_the_same_seed_gives_the_same_adapter_and_another_one_not(base, splits, first_run, tmp_path):
    again = run(base, splits, tmp_path / "again")
    other = run(base, splits, tmp_path / "other", seed=1)
    assert largest_difference(trained(first_run[0].model), trained(again.model)) == 0
    assert largest_difference(trained(first_run[0].model), trained(other.model)) > 1e-3


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_three_steps_and_three_after_a_resume_equal_six(base, splits, tmp_path, dropout):
    settings = TrainingSettings(
        num_epochs=1, unit_dropout=dropout, prompt_dropout=dropout, batch_size=16, num_virtual_tokens=3, prompt="deep"
    )
    kept = {"save_strategy": "steps", "save_steps": 3, "eval_strategy": "steps", "eval_steps": 3}
    kept["load_best_model_at_end"] = False
    straight = run(base, splits, tmp_path / "straight", settings, **kept)

    with pytest.raises(StoppedError):
        run(base, splits, tmp_path / "resumed", settings, **kept, callbacks=[StopAtTheFirstSave()])
    checkpoint = tmp_path / "resumed" / "checkpoints" / "checkpoint-3"
    files = {path.name: path.stat().st_size for path in checkpoint.iterdir()}
    num_trained = straight.trained_parameters
    # The trained vectors themselves and the rows of the verbalizer's units, never the base.
    assert 4 * num_trained < files["model.safetensors"] < 4 * num_trained + 1500
    # Adam keeps two numbers for each trained one, the rest is overhead of the file format.
    assert files["optimizer.pt"] < 2 * 4 * num_trained + 6000
    resumed = run(base, splits, tmp_path / "resumed", settings, resume=True, **kept)
    assert [entry["step"] for entry in resumed.history] == [3.0, 6.0]
    assert largest_difference(trained(straight.model), trained(resumed.model)) == 0


def test_a_resumed_run_in_some_layers_equals_a_straight_one(base, splits, tmp_path):
    settings = TrainingSettings(
        num_epochs=1,
        batch_size=16,
        num_virtual_tokens=4,
        prompt_layers="upper",
        prompt_init="class_means",
        unit_dropout=0.2,
        weight_decay=0.1,
    )
    kept = {"save_strategy": "steps", "save_steps": 3, "eval_strategy": "steps", "eval_steps": 3}
    kept["load_best_model_at_end"] = False
    straight = run(base, splits, tmp_path / "straight", settings, **kept)
    # One of two layers: keys and values of width 32, the separator, the verbalizer.
    assert straight.trained_parameters == 2 * 4 * 32 + 32 + 3 * 2 * 30
    with pytest.raises(StoppedError):
        run(base, splits, tmp_path / "resumed", settings, **kept, callbacks=[StopAtTheFirstSave()])
    state = tmp_path / "resumed" / "checkpoints" / "checkpoint-3" / "optimizer.pt"
    moments = torch.load(state, weights_only=True)["state"]
    assert sorted(tuple(each["exp_avg"].shape) for each in moments.values()) == sorted(
        tuple(value.shape) for value in trained(straight.model).values()
    )
    changed = replace(settings, prompt_layers="lower")
    with pytest.raises(ConfigurationError, match=r'settings.prompt_layers \(was "upper", is "lower"\)'):
        run(base, splits, tmp_path / "resumed", changed, resume=True, **kept)
    resumed = run(base, splits, tmp_path / "resumed", settings, resume=True, **kept)
    assert largest_difference(trained(straight.model), trained(resumed.model)) == 0
    tables = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("straight", "resumed")]
    assert torch.equal(tables[0]["prompt_embeddings"], tables[1]["prompt_embeddings"])
    lower = tables[0]["prompt_embeddings"].unflatten(1, (2, 2, 32))[:, 0]
    attention = straight.model.lm.model.layers[0].self_attn
    assert torch.equal(lower[:, 0], attention.k_proj.bias.expand(4, -1))
    assert torch.equal(lower[:, 1], attention.v_proj.bias.expand(4, -1))


@pytest.mark.parametrize(
    "options",
    [
        {"prompt_init": "zeros"},
        {"prompt_init": "frequent_units"},
        {"prompt_init": "class_means", "prompt": "input"},
        {"prompt_layers": "lower"},
    ],
    ids=str,
)
def test_settings_reach_the_prompt(base, splits, tmp_path, options):
    settings = TrainingSettings(num_epochs=1, num_virtual_tokens=3, learning_rate=1e-9, prompt_dropout=0.0, **options)
    result = run(base, splits, tmp_path, settings)
    rows = {"training_units": splits.train["units"], "training_labels": [i % 3 for i in range(len(splits.train))]}
    given = {"prompt_dropout": 0.0, **options, **(rows if options.get("prompt_init") != "zeros" else {})}
    begun = SpeechPromptForAudioClassification.from_base(base, list(LABELS), num_virtual_tokens=3, **given)
    names = [name for name in trained(begun) if name.startswith("prompt.")]
    assert max(float((trained(begun)[name] - trained(result.model)[name]).abs().max()) for name in names) < 1e-5


@pytest.fixture
def stopped(base, splits, tmp_path):
    with pytest.raises(StoppedError):
        run(base, splits, tmp_path / "run", STOPPED, callbacks=[StopAtTheFirstSave()], **STEPS)
    return tmp_path / "run"


STOPPED = TrainingSettings(num_epochs=1, batch_size=16, num_virtual_tokens=3)
STEPS = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}


@pytest.mark.parametrize("damage", ["no state", "half a state", "no optimizer", "half the vectors"])
def test_a_half_written_checkpoint_is_passed_over(base, splits, stopped, damage):
    half = stopped / "checkpoints" / "checkpoint-4"
    shutil.copytree(stopped / "checkpoints" / "checkpoint-2", half)
    if damage == "half a state":
        (half / "trainer_state.json").write_text('{"global_step": 4, "log')
    elif damage == "half the vectors":
        (half / "model.safetensors").write_bytes((half / "model.safetensors").read_bytes()[:-100])
    else:
        (half / ("optimizer.pt" if damage == "no optimizer" else "trainer_state.json")).unlink()
    result = run(base, splits, stopped, STOPPED, resume=True, **STEPS)
    assert [entry["step"] for entry in result.history] == [2.0, 4.0, 6.0]


def test_without_a_complete_checkpoint_a_resumed_run_begins_anew(base, splits, stopped):
    (stopped / "checkpoints" / "checkpoint-2" / "trainer_state.json").unlink()
    assert run(base, splits, stopped, STOPPED, resume=True, **STEPS).num_epochs == 1


def test_a_run_is_not_resumed_with_other_settings_or_rows(base, splits, stopped):
    changed = replace(STOPPED, num_virtual_tokens=4, learning_rate=0.02)
    with pytest.raises(ConfigurationError, match=r"settings.learning_rate \(was 0.01, is 0.02\), settings.num_virt"):
        run(base, splits, stopped, changed, resume=True)
    with pytest.raises(ConfigurationError, match=r"data: seed \(was 0, is 5\) \(repeat"):
        run(base, splits, stopped, STOPPED, resume=True, seed=5)
    fewer = replace(splits, train=splits.train.select(range(90)))
    with pytest.raises(ConfigurationError, match=r"data: rows.train \("):
        run(base, fewer, stopped, STOPPED, resume=True)
    run(base, splits, stopped, STOPPED, resume=True, **STEPS)


def test_a_checkpoint_without_the_raw_vectors_would_not_resume_exactly(base, splits, tmp_path):
    """The negative of the test above: the table alone forgets what stood before the projections."""
    result = run(base, splits, tmp_path / "adapter")
    from_table = SpeechPromptForAudioClassification.from_pretrained(tmp_path / "adapter")
    assert not from_table.prompt.projected and result.model.prompt.projected
    assert largest_difference(trained(result.model), trained(from_table)) > 1e-3


def test_four_accumulated_batches_of_two_equal_one_of_eight(base, splits, tmp_path):
    settings = {"num_epochs": 1, "unit_dropout": 0.0, "prompt_dropout": 0.0, "num_virtual_tokens": 3}
    whole = run(base, splits, tmp_path / "whole", TrainingSettings(batch_size=8, **settings))
    parts = run(base, splits, tmp_path / "parts", TrainingSettings(batch_size=2, accumulation=4, **settings))
    # Sums in another order; Adam divides by the root of small second moments.
    assert largest_difference(trained(whole.model), trained(parts.model)) < 2e-4
    assert abs(whole.history[0]["train_loss"] - parts.history[0]["train_loss"]) < 1e-4


def test_the_best_epoch_is_kept(base, splits, tmp_path):
    settings = TrainingSettings(
        num_epochs=5, learning_rate=0.3, schedule="constant", warmup_steps=0, unit_dropout=0.0, patience=5
    )
    result = run(base, splits, tmp_path, settings)
    accuracies = [entry["validation_accuracy"] for entry in result.history]
    assert result.validation_metric == max(accuracies)
    from speechprompt_hf.evaluation import class_probabilities

    predicted = class_probabilities(result.model, splits.validation, result.vocabulary).argmax(-1)
    names = [result.model.config.id2label[index] for index in predicted]
    right = sum(name == label for name, label in zip(names, splits.validation["label"], strict=True))
    assert right / len(names) == pytest.approx(max(accuracies))


def test_patience_ends_training(base, splits, tmp_path):
    settings = TrainingSettings(
        num_epochs=6, patience=1, learning_rate=1e-6, num_virtual_tokens=2, unit_dropout=0.0, schedule="constant"
    )
    result = run(base, splits, tmp_path, settings)
    # The loss still falls; it is the accuracy that stands.
    losses = [entry["validation_loss"] for entry in result.history]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert len({entry["validation_accuracy"] for entry in result.history}) == 1


def test_bf16_keeps_prompts_in_float32(base, splits, tmp_path):
    settings = TrainingSettings(num_epochs=1, bf16=True, num_virtual_tokens=2)
    result = run(base, splits, tmp_path, settings)
    assert {value.dtype for value in trained(result.model).values()} == {torch.float32}
    assert load_file(tmp_path / "adapter_model.safetensors")["prompt_embeddings"].dtype == torch.float32
    assert math.isfinite(result.history[0]["train_loss"])


def test_gradient_checkpointing_changes_nothing_but_memory(base, splits, tmp_path):
    results, calls = [], []
    for checkpointing in (False, True):
        lm = GSLMForCausalLM.from_pretrained(base)
        calls.append(count_calls(lm.model.layers[0].fc1))
        settings = replace(EXACT, num_epochs=1, gradient_checkpointing=checkpointing)
        results.append(run(lm, splits, tmp_path / str(checkpointing), settings))
    assert largest_difference(*(trained(result.model) for result in results)) < 1e-4
    # Once more in each of the 12 updates.
    assert len(calls[1]) == len(calls[0]) + 12


@pytest.mark.parametrize("method", ["finetune", "probe"])
def test_other_methods_train_what_they_say(base, splits, tmp_path, method):
    result = run(base, splits, tmp_path, TrainingSettings(num_epochs=2, batch_size=32), method=method)
    assert result.model.prompt is None
    before = SpeechPromptForAudioClassification.from_base(base, ["a", "b"]).lm.state_dict()
    moved = any(not torch.equal(before[name], value) for name, value in result.model.lm.state_dict().items())
    assert moved == (method == "finetune")
    opened = SpeechPromptForAudioClassification.from_pretrained(tmp_path)
    ids = torch.tensor([[2, 7, 11, 23, 0]])
    assert (opened(ids).logits - result.model(ids).logits).abs().max() < 1e-5
    assert (tmp_path / "language_model").is_dir() == (method == "finetune")


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "input", "readout": "separator"},
        {"verbalizer": "frequency", "readout": "separator"},
        {"verbalizer": "random", "readout": "pooled"},
    ],
)
def test_every_kind_of_prompt_and_verbalizer_trains(base, splits, tmp_path, options):
    result = run(base, splits, tmp_path, TrainingSettings(num_epochs=1, **options))
    assert math.isfinite(result.history[0]["train_loss"])
    has_weights = options.get("verbalizer", "learnable") == "learnable"
    assert any(name.startswith("verbalizer") for name in trained(result.model)) == has_weights


@pytest.mark.parametrize("readout", ["separator", "pooled"])
def test_label_sequences_train(base, splits, tmp_path, readout):
    task = Task("directions", ("left", "right", "stop"), label_sequences=((0, 2), (0, 3), (1, 2)))
    settings = TrainingSettings(num_epochs=1, readout=readout)
    result = train(task, splits, base, settings, output_dir=tmp_path, progress=False)
    assert result.history[0]["validation_accuracy"] >= 0 and math.isfinite(result.history[0]["train_loss"])
    opened = SpeechPromptForAudioClassification.from_pretrained(tmp_path)
    assert opened.config.label_sequences == [[0, 2], [0, 3], [1, 2]]


def test_what_cannot_be_trained_is_refused_before_training(base, splits, tmp_path, monkeypatch):
    recordings = Dataset.from_dict({"audio": [b""], "label": ["a"], "speaker": [None], "item": ["x"]})
    task = task_from_labels(splits.train["label"])
    with pytest.raises(ConfigurationError, match="hold recordings"):
        train(task, Splits(recordings, recordings, recordings), base, output_dir=tmp_path)
    long = splits.test.map(lambda row, index: {"units": [1, 2] * 30} if index == 3 else {}, with_indices=True)
    with pytest.raises(UnitError, match=r"utterance 3 \(test\) has 60 units"):
        train(task, Splits(splits.train, splits.validation, long), base, output_dir=tmp_path)
    strange = splits.train.map(lambda row: {"units": [99]})
    with pytest.raises(UnitError, match="unit 99"):
        train(task, Splits(strange, splits.validation, splits.test), base, output_dir=tmp_path)
    # A label of the test rows alone.
    lone = Splits(
        *(part.filter(lambda row: row["label"] != "stop") for part in (splits.train, splits.validation)), splits.test
    )
    monkeypatch.setattr(
        SpeechPromptForAudioClassification, "from_base", lambda *given, **options: pytest.fail("began")
    )
    with pytest.raises(LabelError, match="'stop'"):
        train(task_from_labels(["left", "right"]), lone, base, output_dir=tmp_path)
    with pytest.raises(LabelError, match="'stop'"):
        train(task_from_labels(["left", "right"]), splits, base, output_dir=tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_epochs": 0}, "num_epochs"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"schedule": "zigzag"}, "zigzag"),
        ({"prompt": "input", "prompt_layers": "upper"}, "prompt_layers is 'upper' with an input prompt"),
    ],
)
def test_impossible_settings_are_refused(options, words):
    with pytest.raises(ConfigurationError, match=words):
        TrainingSettings(**options)


def test_updates_have_similar_lengths_and_do_not_depend_on_the_batch_cut():
    lengths = torch.randint(3, 100, (530,), generator=torch.Generator().manual_seed(0)).tolist()
    sampler = LengthGroupedSampler(lengths, 16, seed=4)
    order = list(sampler)
    assert sorted(order) == list(range(530))
    updates = [[lengths[row] for row in order[start : start + 16]] for start in range(0, 530, 16)]
    padded = sum(max(update) * len(update) for update in updates)
    shuffled = [lengths[start : start + 16] for start in range(0, 530, 16)]
    assert padded < 0.7 * sum(max(update) * len(update) for update in shuffled)
    # Long and short updates alternate at random: no curriculum.
    means = torch.tensor([sum(update) / len(update) for update in updates])
    assert not torch.equal(means, means.sort().values) and len(updates[-1]) == 530 % 16
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    assert second != order and list(sampler) == order
