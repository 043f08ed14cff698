"""Smoothed labels and verbalizers of two layers in runs: the loss, what wins, and runs of earlier versions."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from speechprompt_hf import SpeechPromptForAudioClassification
from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.tasks import Task, task_from_labels
from speechprompt_hf.training import PromptTrainer, TrainingSettings, train
from speechprompt_hf.training.resuming import RUN_FILE, check_run, write_run
from speechprompt_hf.training.sequence_settings import SequenceTrainingSettings
from tests.fixtures.tiny_models import PEFT_WARNING, RAGGED_ROWS, pad
from tests.fixtures.unit_tasks import LABELS

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)

SHORT = TrainingSettings(num_epochs=1, num_virtual_tokens=3, verbalizer_hidden_size=6, label_smoothing=0.1)
SEQUENCES = [[0, 0], [0, 1], [1, 0]]


def run(base, splits, folder, settings=SHORT, **options):
    task = options.pop("task", None) or task_from_labels(splits.train["label"])
    return train(task, splits, base, settings, output_dir=folder, progress=False, **options)


def trainer_of(model, folder, **options):
    return PromptTrainer(model=model, args=TrainingArguments(str(folder), report_to="none", use_cpu=True, **options))


def smoothed_loss(log_probabilities, labels, share):
    target = torch.full_like(log_probabilities, share / log_probabilities.shape[-1])
    target[range(len(labels)), labels] += 1 - share
    return -(target * log_probabilities).sum(-1).mean()


@pytest.mark.parametrize("sequences", [None, SEQUENCES])
def test_the_loss_is_that_of_a_target_which_all_classes_share(base, tmp_path, sequences):
    model = SpeechPromptForAudioClassification.from_base(
        base,
        ["a", "b", "c"],
        readout="pooled",
        verbalizer_hidden_size=6,
        label_sequences=sequences,
        prompt_dropout=0.0,
    )
    trainer = trainer_of(model, tmp_path, label_smoothing_factor=0.1)
    ids, mask = pad(RAGGED_ROWS)
    labels = torch.tensor([0, 1, 2])
    loss = trainer.compute_loss(model, {"input_ids": ids, "attention_mask": mask, "labels": labels})
    # Of several labels the scores are normalised over the known sequences.
    expected = smoothed_loss(model(ids, mask).logits.log_softmax(-1), labels, 0.1)
    assert (loss - expected).abs() < 1e-5
    assert (loss - nn.functional.nll_loss(model(ids, mask).logits.log_softmax(-1), labels)).abs() > 1e-3


def test_batches_of_several_adapters_are_not_smoothed(base, tmp_path):
    model = SpeechPromptForAudioClassification.from_base(base, ["a", "b", "c"], readout="pooled")
    other = SpeechPromptForAudioClassification.from_base(base, ["x", "y"], readout="pooled")
    other.save_pretrained(tmp_path / "other")
    model.load_adapter(tmp_path / "other", adapter_name="other")
    ids, mask = pad(RAGGED_ROWS)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 1, 2])}
    batch["adapter_names"] = ["default", "other", "default"]
    with pytest.raises(ConfigurationError, match=r"label_smoothing_factor is 0.1 and a batch has adapter_names"):
        trainer_of(model, tmp_path, label_smoothing_factor=0.1).compute_loss(model, dict(batch))
    assert trainer_of(model, tmp_path).compute_loss(model, dict(batch)).isfinite()


@pytest.mark.parametrize("method", ["prompt", "finetune"])
def test_several_labels_are_trained_and_opened(base, splits, tmp_path, method):
    task = Task("sequences", labels=LABELS, label_sequences=tuple(map(tuple, SEQUENCES)))
    result = run(base, splits, tmp_path, task=task, method=method)
    assert all(torch.isfinite(torch.tensor(entry["train_loss"])) for entry in result.history)
    opened = SpeechPromptForAudioClassification.from_pretrained(tmp_path)
    ids, mask = pad(RAGGED_ROWS)
    assert opened.config.verbalizer_hidden_size == 6
    assert torch.allclose(opened(ids, mask).logits, result.model(ids, mask).logits, atol=1e-5)


def test_labels_that_are_read_one_after_another_are_not_smoothed(base, splits, tmp_path):
    task = Task("sequences", labels=LABELS, label_sequences=tuple(map(tuple, SEQUENCES)))
    message = r"label_smoothing is 0.1 with 2 labels an utterance, read one after another"
    with pytest.raises(ConfigurationError, match=message):
        run(base, splits, tmp_path, replace(SHORT, readout="separator"), task=task)
    with pytest.raises(ConfigurationError, match=message):
        run(base, splits, tmp_path, task=task, model_options={"readout": "separator"})
    run(base, splits, tmp_path, replace(SHORT, readout="separator", label_smoothing=0.0), task=task)


def as_before(settings):
    """What a run wrote before these settings were there."""
    return {
        name: value for name, value in settings.items() if name not in ("verbalizer_hidden_size", "label_smoothing")
    }


def test_a_run_of_an_earlier_version_goes_on_as_it_began(tmp_path):
    (tmp_path / RUN_FILE).write_text(json.dumps({"settings": as_before(vars(TrainingSettings()))}))
    check_run(tmp_path, {"settings": vars(TrainingSettings())})
    with pytest.raises(ConfigurationError, match=r"smoothing \(was 0.0, is 0.1\).*hidden_size \(was 0, is 6\)"):
        check_run(
            tmp_path, {"settings": vars(replace(TrainingSettings(), verbalizer_hidden_size=6, label_smoothing=0.1))}
        )


def test_a_run_that_has_no_such_settings_goes_on(tmp_path):
    run = {"settings": vars(SequenceTrainingSettings())}
    write_run(tmp_path, run)
    check_run(tmp_path, run)
