"""`transformers.Trainer` as it is: resuming, the best model, adapters that are trained on."""

import shutil

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers import trainer as trainer_module

from speechprompt_hf import SpeechPromptForAudioClassification, UnitVocabulary
from speechprompt_hf.data import UnitCollator, labelled_units
from speechprompt_hf.tasks import task_from_labels
from speechprompt_hf.training import PromptTrainer
from tests.fixtures.tiny_models import PEFT_WARNING, VOCAB_SIZE

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)
VOCABULARY = UnitVocabulary.from_num_units(VOCAB_SIZE - 4)
IDS = torch.tensor([[2, 7, 11, 23, 0]])


def fresh(base, **options):
    options = {"num_virtual_tokens": 3, "prompt_dropout": 0.0, **options}
    return SpeechPromptForAudioClassification.from_base(base, ["left", "right", "stop"], **options)


def logits_of(model):
    with torch.no_grad():
        return model.eval()(IDS.to(model.device)).logits


class WorseAndWorse(TrainerCallback):
    """Evaluations whose first is the best."""

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        metrics["eval_first"] = -state.global_step


def make_trainer(model, splits, folder, kind=Trainer, callbacks=(), **options):
    task = task_from_labels(splits.train["label"])
    tables = [labelled_units(rows, task, VOCABULARY) for rows in (splits.train, splits.validation)]
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=options.pop("max_steps", 6),
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        save_steps=3,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        **options,
    )
    return kind(model, arguments, UnitCollator(VOCABULARY), *tables, callbacks=list(callbacks))


@pytest.fixture
def warnings_of_trainer(monkeypatch):
    seen = []
    monkeypatch.setattr(trainer_module.logger, "warning", lambda text, *rest, **options: seen.append(text))
    return seen


@pytest.mark.parametrize(
    "options",
    [{}, {"prompt": "input"}, {"method": "probe"}, {"method": "finetune"}, {"verbalizer": "random"}],
    ids=str,
)
def test_three_steps_and_three_after_a_resume_equal_six(base, splits, tmp_path, options, warnings_of_trainer):
    straight = make_trainer(fresh(base, **options), splits, tmp_path / "straight")
    straight.train()
    resumed = make_trainer(fresh(base, **options), splits, tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-3"))
    assert resumed.state.global_step == 6
    first, second = straight.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(logits_of(straight.model), logits_of(fresh(base, **options)))
    assert not [text for text in warnings_of_trainer if "missing" in text or "unexpected" in text]
    # What is saved at the end is no checkpoint.
    straight.save_model(tmp_path / "final")
    assert not (tmp_path / "final" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("kind", "published", "method"),
    [
        (Trainer, False, "prompt"),
        (Trainer, True, "prompt"),
        (PromptTrainer, True, "prompt"),
        (Trainer, False, "finetune"),
    ],
)
def test_the_best_model_is_loaded_at_the_end(base, splits, tmp_path, kind, published, method):
    model = fresh(base, method=method)
    if published:  # a prompt that was opened goes on as a table
        model.save_pretrained(tmp_path / "adapter")
        model = SpeechPromptForAudioClassification.from_pretrained(tmp_path / "adapter")
    best = {"load_best_model_at_end": True, "metric_for_best_model": "first", "greater_is_better": True}
    trainer = make_trainer(
        model, splits, tmp_path / "run", kind, [WorseAndWorse()], eval_strategy="steps", eval_steps=3, **best
    )
    kept = {}

    class Keep(TrainerCallback):
        def on_save(self, args, state, control, model, **kwargs):
            kept[state.global_step] = logits_of(model).clone()
            model.train()

    trainer.add_callback(Keep())
    trainer.train()
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-3")
    assert torch.equal(logits_of(trainer.model), kept[3]) and not torch.equal(kept[3], kept[6])
    opened = SpeechPromptForAudioClassification.from_pretrained(tmp_path / "run" / "checkpoint-6")
    assert torch.equal(logits_of(opened), kept[6])


def test_the_parametrisation_travels_with_the_vectors(base, splits, tmp_path):
    model = fresh(base)
    model.save_pretrained(tmp_path / "adapter")
    opened = SpeechPromptForAudioClassification.from_pretrained(tmp_path / "adapter")
    assert opened.config.prompt_parametrization == "table" and model.config.prompt_parametrization == "projected"
    make_trainer(opened, splits, tmp_path / "run", max_steps=3).train()
    # Into a model whose prompt is projected.
    other = fresh(base)
    make_trainer(other, splits, tmp_path / "other", max_steps=3).train(str(tmp_path / "run" / "checkpoint-3"))
    assert not other.prompt.projected and torch.equal(logits_of(other), logits_of(opened))
    # A configuration that is passed stays as it is.
    shutil.rmtree(tmp_path / "run")
    SpeechPromptForAudioClassification.from_pretrained(tmp_path / "adapter", config=model.config)
    assert model.prompt.projected
