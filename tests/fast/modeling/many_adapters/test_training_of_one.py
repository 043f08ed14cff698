"""Only the active adapter is trained."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from speechprompt_hf import UnitVocabulary
from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.data import UnitCollator
from speechprompt_hf.modeling import SpeechPromptForAudioClassification
from tests.fixtures.many_adapters import logits_of, make, open_all
from tests.fixtures.tiny_models import (
    PEFT_WARNING,
    RAGGED_ROWS,
    VOCAB_SIZE,
    pad,
)

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


def trainable(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def tensors_of(model, name):
    state = model._adapter(name).parts.state_dict()
    return {key: value.clone() for key, value in state.items() if isinstance(value, torch.Tensor)}


def training_rows(num_classes):
    generator = torch.Generator().manual_seed(0)
    rows = []
    for index in range(16):
        units = torch.randint(4, VOCAB_SIZE, (6,), generator=generator).tolist()
        rows.append({"input_ids": [2, *units, 0], "labels": index % num_classes})
    return rows


def make_trainer(model, folder, num_classes, steps=3):
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        save_steps=3,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    collator = UnitCollator(UnitVocabulary.from_num_units(VOCAB_SIZE - 4))
    return Trainer(model, arguments, collator, training_rows(num_classes))


def test_only_the_active_adapter_is_trained_and_saved(folders, alone, tmp_path):
    model = open_all(folders)
    model.set_adapter("input")
    before = {name: tensors_of(model, name) for name in model.adapter_names}
    assert trainable(model) == {"prompt.separator_offset", "prompt.vectors", "verbalizer.weight"}
    assert model.num_trained_parameters() == sum(p.numel() for p in model.parameters() if p.requires_grad)
    make_trainer(model, tmp_path / "run", num_classes=5).train()
    model.eval()
    for name in model.adapter_names:
        after = tensors_of(model, name)
        changed = {key for key, value in after.items() if not torch.equal(value, before[name][key])}
        assert changed == (trainable(model) if name == "input" else set()), name
    # Trainer's checkpoint is the active adapter's, and opens as it is.
    opened = SpeechPromptForAudioClassification.from_pretrained(tmp_path / "run" / "checkpoint-3")
    assert opened.config.class_names == alone["input"].config.class_names
    assert torch.equal(logits_of(opened), logits_of(model))
    assert not torch.equal(logits_of(opened), logits_of(alone["input"]))
    # Others go on to be used beside it.
    ids, mask = pad(RAGGED_ROWS)
    with torch.no_grad():
        mixed = model(ids, mask, adapter_names=["input", "probe", "input"]).logits
    assert (mixed[0, :5] - logits_of(opened, RAGGED_ROWS[:1])[0]).abs().max() < 1e-4
    assert (mixed[1] - logits_of(alone["probe"], RAGGED_ROWS[1:2])[0]).abs().max() < 1e-4


@pytest.mark.parametrize("first", ["probe", "deep"])
def test_training_resumes_after_switching(folders, tmp_path, first):
    """The order of parameters does not depend on which adapter came first."""

    def fresh():
        model = SpeechPromptForAudioClassification.from_pretrained(folders / first)
        model.load_adapter(folders / "input", "new")
        model.set_adapter("new")
        return model

    straight = fresh()
    make_trainer(straight, tmp_path / "straight", 5, steps=6).train()
    opened = SpeechPromptForAudioClassification.from_pretrained(tmp_path / "straight" / "checkpoint-3")
    make_trainer(opened, tmp_path / "opened", 5, steps=6).train(str(tmp_path / "straight" / "checkpoint-3"))
    first_state, second_state = straight.state_dict(), opened.state_dict()
    assert all(torch.equal(first_state[name], second_state[name]) for name in first_state)


def test_what_is_trained_survives_being_put_aside(base_folder, folders):
    """Projected vectors stay what they are, and a frozen parameter stays frozen."""
    model = make(str(base_folder), prompt_dropout=0.5)
    model.load_adapter(folders / "probe", "probe")
    model.verbalizer.requires_grad_(False)
    keys, expected = model.prompt.keys.detach().clone(), logits_of(model)
    model.train()
    model(*pad(RAGGED_ROWS), labels=torch.tensor([0, 1, 2])).loss.backward()
    model.set_adapter("probe")
    assert trainable(model) == {"verbalizer.weight", "verbalizer.bias"}
    assert model.verbalizer.training and not model._adapters["default"].prompt.training
    ids, mask = pad(RAGGED_ROWS)
    mixed = model(ids, mask, adapter_names=["default"] * 3).logits
    assert (mixed - expected).abs().max() < 1e-4  # no dropout, and the vectors are projected
    assert not mixed.requires_grad
    model.set_adapter("default")
    assert torch.equal(model.prompt.keys, keys) and model.prompt.projected and model.prompt.training
    assert model.prompt.keys.grad is None
    assert trainable(model) == {"prompt.keys", "prompt.values", "prompt.separator_offset"}


def test_a_mixed_batch_trains_the_active_adapter_alone(folders):
    model = open_all(folders)
    model.set_adapter("intents")
    model.train()
    ids, mask = pad([*RAGGED_ROWS, RAGGED_ROWS[0]])
    output = model(ids, mask, labels=torch.tensor([4, 0, 3, 1]), adapter_names=["intents", "default", "probe", "long"])
    output.loss.backward()
    assert model.prompt.keys.grad.abs().sum() > 0 and model.verbalizer.weight.grad.abs().sum() > 0
    for name in ("default", "probe", "long"):
        assert all(parameter.grad is None for parameter in model._adapters[name].parts.parameters())
    assert all(parameter.grad is None for parameter in model.lm.parameters())


def test_units_are_left_out_of_the_active_adapters_rows_only(base_folder, folders, alone):
    model = make(str(base_folder), unit_dropout=0.9, prompt_dropout=0.0)
    model.load_adapter(folders / "probe", "probe")
    expected = logits_of(model)
    model.train()
    torch.manual_seed(0)
    ids, mask = pad(RAGGED_ROWS)
    with torch.no_grad():
        mixed = model(ids, mask, adapter_names=["probe", "default", "probe"]).logits
    for row in (0, 2):
        assert (mixed[row] - logits_of(alone["probe"], [RAGGED_ROWS[row]])[0]).abs().max() < 1e-4
    assert (mixed[1, :3] - expected[1]).abs().max() > 1e-2
    with pytest.raises(ConfigurationError, match="1 adapter_names for a batch of 3 rows"):
        model(ids, mask, adapter_names=["probe"])
