"""Adapters are switched, deleted and refused."""

import json
from contextlib import nullcontext
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from speechprompt_hf.core.errors import AdapterError, ConfigurationError, FingerprintMismatchError
from speechprompt_hf.modeling import GSLMForCausalLM, SpeechPromptForAudioClassification
from tests.fixtures.many_adapters import (
    KINDS,
    OTHERS,
    check_against_alone,
    logits_of,
    make,
    open_all,
)
from tests.fixtures.tiny_models import (
    PEFT_WARNING,
    RAGGED_ROWS,
    pad,
    tiny_lm,
)

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


def test_switching_gives_each_task_its_own_labels_and_scores(folders, alone):
    model = open_all(folders)
    assert model.adapter_names == ["default", *OTHERS]
    assert model.active_adapter == "default" and model.active_adapters() == ["default"]
    assert torch.equal(logits_of(model), logits_of(alone["deep"]))
    for name in ["intents", "probe", "default", "long input", "mixture", "probe", "default"]:
        model.set_adapter(name)
        oracle = alone["deep" if name == "default" else name]
        assert model.active_adapter == name
        assert model.config.id2label == oracle.config.id2label
        assert model.config.label_sequences == oracle.config.label_sequences
        assert (logits_of(model) - logits_of(oracle)).abs().max() < 1e-4
        ids, mask = pad(RAGGED_ROWS)
        assert torch.equal(model.decode(ids, mask, "greedy"), oracle.decode(ids, mask, "greedy"))
    assert model.adapter_names == ["default", *OTHERS]
    assert model.adapter_config("probe").class_names == alone["probe"].config.class_names
    assert model.adapter_config() is model.config


def test_the_base_is_loaded_once(folders, monkeypatch):
    model = SpeechPromptForAudioClassification.from_pretrained(folders / "deep")

    def refuse(*_, **__):
        raise AssertionError("the base was loaded again")

    monkeypatch.setattr(GSLMForCausalLM, "from_pretrained", refuse)
    lm, parameters = model.lm, list(model.parameters())
    for name in OTHERS:
        model.load_adapter(folders / name, name)
    assert model.lm is lm
    assert all(first is second for first, second in zip(model.parameters(), parameters, strict=True))
    for name in OTHERS:
        adapter = model._adapters[name]
        assert not any(parameter.requires_grad for parameter in adapter.parts.parameters())
        own = {parameter.data_ptr() for parameter in adapter.parts.parameters()}
        assert own.isdisjoint(parameter.data_ptr() for parameter in lm.parameters())


def test_tensors_kept_are_those_of_the_files(many, folders):
    """No copy in another precision, none of the base."""
    for name in OTHERS:
        files = [folders / name / file for file in ("adapter_model.safetensors", "verbalizer.safetensors")]
        in_files = sum(t.nbytes for file in files if file.exists() for t in load_file(file).values())
        kept = sum(t.nbytes for t in many._adapters[name].parts.state_dict().values() if isinstance(t, torch.Tensor))
        assert abs(kept - in_files) <= 16  # the number of columns, and how a prompt is parametrised


def test_deleting(folders, alone):
    model = open_all(folders)
    model.delete_adapter("probe")
    assert "probe" not in model.adapter_names
    with pytest.raises(AdapterError, match="there is no adapter 'probe'; known are 'default', 'long'"):
        model.set_adapter("probe")
    with pytest.raises(AdapterError, match="'default' is active and cannot be deleted"):
        model.delete_adapter("default")
    with pytest.raises(AdapterError, match="no adapter 'nothing'"):
        model.delete_adapter("nothing")
    model.set_adapter("long")
    model.delete_adapter("default")
    model.load_adapter(folders / "probe", "default")
    model.set_adapter("default")
    assert torch.equal(logits_of(model), logits_of(alone["probe"]))


def test_renaming(folders, alone):
    model = open_all(folders)
    model.rename_adapter("default", "words")
    model.rename_adapter("probe", "probed")
    assert model.active_adapter == "words" and model.adapter_names[0] == "words"
    assert "default" not in model.adapter_names and "probe" not in model.adapter_names
    assert torch.equal(logits_of(model), logits_of(alone["deep"]))
    model.set_adapter("probed")
    assert torch.equal(logits_of(model), logits_of(alone["probe"]))
    with pytest.raises(AdapterError, match="there is an adapter 'words' already"):
        model.rename_adapter("probed", "words")
    with pytest.raises(AdapterError, match="no adapter 'nothing'"):
        model.rename_adapter("nothing", "x")
    with pytest.raises(ConfigurationError, match="new_name is ''"):
        model.rename_adapter("words", "")


places = st.sampled_from(["default", "x", "y"])
operations = st.lists(
    st.tuples(st.sampled_from(["load", "set", "delete"]), places, st.sampled_from(list(KINDS))), max_size=8
)


@settings(deadline=None, max_examples=15)
@given(operations=operations)
def test_any_order_of_loading_switching_and_deleting(folders, alone, operations):
    model = SpeechPromptForAudioClassification.from_pretrained(folders / "deep", base=alone["deep"].lm)
    expected, active = {"default": "deep"}, "default"
    for operation, name, kind in operations:
        is_possible = (name not in expected) if operation == "load" else name in expected
        if operation == "delete" and name == active:
            is_possible = False
        with nullcontext() if is_possible else pytest.raises(AdapterError):
            if operation == "load":
                model.load_adapter(folders / kind, name)
                expected[name] = kind
            elif operation == "set":
                model.set_adapter(name)
                active = name
            else:
                model.delete_adapter(name)
                del expected[name]
        assert model.active_adapter == active
        assert model.adapter_names == list(expected)
    assert (logits_of(model) - logits_of(alone[expected[active]])).abs().max() < 1e-4
    ids, mask = pad([RAGGED_ROWS[0]] * len(expected))
    with torch.no_grad():
        mixed = model(ids, mask, adapter_names=list(expected)).logits
    for row, kind in zip(mixed, expected.values(), strict=True):
        assert (row[: KINDS[kind][0]] - logits_of(alone[kind], RAGGED_ROWS[:1])[0]).abs().max() < 1e-4


def test_names_that_are_wrong(many, folders):
    ids, mask = pad(RAGGED_ROWS)
    with pytest.raises(AdapterError, match=r"no adapter 'ks'; known are 'default', 'long', .*'pooled intents'"):
        many(ids, mask, adapter_names=["default", "ks", "probe"])
    with pytest.raises(ConfigurationError, match="2 adapter_names for a batch of 3 rows"):
        many(ids, mask, adapter_names=["default", "probe"])
    with pytest.raises(ConfigurationError, match="adapter_names is 'probe'"):
        many(ids, mask, adapter_names="probe")
    with pytest.raises(AdapterError, match="an adapter 'probe' already"):
        many.load_adapter(folders / "probe", "probe")
    with pytest.raises(ConfigurationError, match="adapter_name is ''"):
        many.load_adapter(folders / "probe", "")
    with pytest.raises(ConfigurationError, match="does not know dtype, nonsense"):
        many.load_adapter(folders / "probe", "new", dtype="x", nonsense=1)
    with pytest.raises(AdapterError, match=r"there is no folder \./there/is/nothing"):
        many.load_adapter("./there/is/nothing", "new")
    assert many.adapter_names == ["default", *OTHERS]


def test_adapters_of_another_base_are_refused(many, tmp_path):
    make(tiny_lm(seed=6, fingerprint={"digest": "units"})).save_pretrained(tmp_path / "other")
    make(tiny_lm(seed=5, hidden_size=16, fingerprint={"digest": "units"})).save_pretrained(tmp_path / "small")
    with pytest.raises(FingerprintMismatchError, match=r"has weights .* the adapter was trained on"):
        many.load_adapter(tmp_path / "other", "other")
    with pytest.raises((FingerprintMismatchError, AdapterError)):
        many.load_adapter(tmp_path / "small", "small")
    assert "other" not in many.adapter_names


def test_adapters_of_other_units_are_refused(many, folders, tmp_path):
    folder = tmp_path / "adapter"
    SpeechPromptForAudioClassification.from_pretrained(folders / "deep").save_pretrained(folder)
    values = json.loads((folder / "config.json").read_text())
    values["unit_fingerprint"] = {"digest": "others"}
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(FingerprintMismatchError, match="was trained on units others, this model on units"):
        many.load_adapter(folder, "other")


def test_fine_tuned_models_are_refused(many, folders, base_folder, tmp_path):
    fine_tuned = make(str(base_folder), method="finetune")
    fine_tuned.save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match="is fine-tuned: it holds a language model of its own"):
        many.load_adapter(tmp_path, "finetune")
    with pytest.raises(AdapterError, match="this model is fine-tuned"):
        fine_tuned.load_adapter(folders / "probe", "probe")


def test_a_damaged_adapter_changes_nothing(many, folders, tmp_path):
    SpeechPromptForAudioClassification.from_pretrained(folders / "deep").save_pretrained(tmp_path)
    (tmp_path / "verbalizer.safetensors").unlink()
    many.train()
    with pytest.raises(AdapterError, match=r"no verbalizer\.safetensors"):
        many.load_adapter(tmp_path, "damaged")
    assert many.training and many.lm.model.training
    many.eval()
    assert "damaged" not in many.adapter_names


def test_adapters_move_and_copy_with_the_model(folders, alone):
    model = deepcopy(open_all(folders))
    check_against_alone(model, alone, RAGGED_ROWS, ["deep", "input", "intents"])
    model.to(torch.float64)
    assert model._adapters["input"].prompt.vectors.dtype == torch.float64
    assert model._adapters["probe"].verbalizer.weight.dtype == torch.float64
