"""Many adapters on one base. The oracle is each task alone: an adapter opened by itself, a row by itself."""

import json
from contextlib import nullcontext
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from speechprompt_hf import UnitVocabulary
from speechprompt_hf.core.errors import AdapterError, ConfigurationError, FingerprintMismatchError
from speechprompt_hf.data import UnitCollator
from speechprompt_hf.modeling import GSLMForCausalLM, PromptStates, SpeechPromptForAudioClassification
from speechprompt_hf.modeling.prompt_bank import gather_prompts
from tests.fixtures.tiny_models import (
    HIDDEN_SIZE,
    PEFT_WARNING,
    RAGGED_ROWS,
    VOCAB_SIZE,
    count_calls,
    pad,
    randomize,
    tiny_lm,
)

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)
SEQUENCES = [[0, 5, 5], [0, 5, 6], [0, 7, 6], [1, 5, 5], [2, 6, 5]]
PAIRS = [[0, 1], [1, 0], [1, 1]]
# Name → classes and options: every kind, several lengths, every readout, one label and several.
KINDS = {
    "deep": (3, {"num_virtual_tokens": 3}),
    "long": (4, {"num_virtual_tokens": 7, "readout": "pooled"}),
    "input": (5, {"prompt": "input", "num_virtual_tokens": 2}),
    "long input": (2, {"prompt": "input", "num_virtual_tokens": 6, "readout": "hidden"}),
    "probe": (6, {"method": "probe"}),
    "fixed": (3, {"verbalizer": "random", "num_virtual_tokens": 1}),
    "intents": (5, {"label_sequences": SEQUENCES, "num_virtual_tokens": 4}),
    "mixture": (3, {"label_sequences": PAIRS, "label_feedback": "mixture", "prompt": "input"}),
    "probed intents": (5, {"method": "probe", "readout": "separator", "label_sequences": SEQUENCES}),
    "pooled intents": (5, {"label_sequences": SEQUENCES, "readout": "pooled"}),
}
OTHERS = [name for name in KINDS if name != "deep"]


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny_lm(seed=5, fingerprint={"digest": "units"}).save_pretrained(folder)
    return folder


def make(base, num_classes=3, **options):
    names = [f"{'abcdefgh'[index]}{num_classes}" for index in range(num_classes)]
    model = SpeechPromptForAudioClassification.from_base(base, names, **{"separator_init": "normal", **options})
    if model.verbalizer.weight is not None:
        randomize(model.verbalizer, seed=num_classes)
    return model


@pytest.fixture(scope="module")
def folders(base_folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    for seed, (name, (num_classes, options)) in enumerate(KINDS.items()):
        make(str(base_folder), num_classes, seed=seed, **options).save_pretrained(root / name)
    return root


@pytest.fixture(scope="module")
def alone(folders):
    """Every adapter opened by itself, with a base of its own."""
    return {name: SpeechPromptForAudioClassification.from_pretrained(folders / name) for name in KINDS}


def open_all(folders, **options):
    model = SpeechPromptForAudioClassification.from_pretrained(folders / "deep", **options)
    for name in OTHERS:
        model.load_adapter(folders / name, name)
    return model


@pytest.fixture(scope="module")
def many(folders):
    return open_all(folders)


def names_here(names):
    return ["default" if name == "deep" else name for name in names]


def logits_of(model, rows=RAGGED_ROWS):
    ids, mask = pad(rows)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).logits


def check_against_alone(many, alone, rows, names, side="right", tolerance=1e-4):
    ids, mask = pad(rows, side)
    with torch.no_grad():
        output = many(input_ids=ids, attention_mask=mask, adapter_names=names_here(names))
    assert output.logits.shape == (len(rows), max(KINDS[name][0] for name in names))
    for tokens, name, row, classes in zip(rows, names, output.logits, output.class_names, strict=True):
        expected = logits_of(alone[name], [tokens])[0]
        assert list(classes) == alone[name].config.class_names
        assert (row[: len(expected)] - expected).abs().max() < tolerance
        assert (row[len(expected) :] == -torch.inf).all()


# Mixed batches


units = st.lists(st.integers(4, VOCAB_SIZE - 1), min_size=0, max_size=10)
tagged_rows = st.tuples(units.map(lambda row: [2, *row, 0]), st.sampled_from(list(KINDS)))


@settings(deadline=None, max_examples=60)
@given(batch=st.lists(tagged_rows, min_size=1, max_size=6), side=st.sampled_from(["left", "right"]))
def test_a_row_scores_as_its_task_alone(many, alone, batch, side):
    rows, names = zip(*batch, strict=True)
    check_against_alone(many, alone, rows, names, side, tolerance=1e-3)  # weights of 0.3 make logits of hundreds


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_all_kinds_in_one_batch(folders, alone, attention):
    model = open_all(folders, attn_implementation=attention)
    assert model.lm.config._attn_implementation == attention
    rows = [RAGGED_ROWS[index % 3] for index in range(2 * len(KINDS))]
    check_against_alone(model, alone, rows, [*KINDS, *reversed(KINDS)])


@pytest.mark.parametrize("names", [["deep", "long"], ["input", "long input"], ["deep", "input"], ["probe", "deep"]])
def test_two_kinds_in_one_batch(many, alone, names):
    check_against_alone(many, alone, RAGGED_ROWS[:2], names)
    check_against_alone(many, alone, RAGGED_ROWS, [*names, names[0]], side="left")


def test_adapters_differ(alone):
    """Otherwise a batch that takes the wrong adapter would pass."""
    for name, other in zip(KINDS, list(KINDS)[1:], strict=False):
        first, second = logits_of(alone[name]), logits_of(alone[other])
        assert first.shape != second.shape or (first - second).abs().max() > 0.1


@pytest.mark.parametrize(
    ("names", "passes"),
    [
        (["deep", "long", "input", "probe", "pooled intents"], 1),
        (["deep", "intents", "mixture", "probed intents", "long"], 2),
        (["intents", "intents"], 2),
    ],
)
def test_a_batch_is_one_pass_and_a_second_for_label_sequences(many, names, passes):
    calls = count_calls(many.lm.model)
    rows = [RAGGED_ROWS[index % 3] for index in range(len(names))]
    logits_of_mixed = many(*pad(rows), adapter_names=names_here(names)).logits
    assert len(logits_of_mixed) == len(names)
    assert len(calls) == passes


def test_the_loss_is_the_mean_over_rows(many, alone):
    names = ["deep", "intents", "probe", "intents", "fixed", "pooled intents"]
    rows, labels = [RAGGED_ROWS[index % 3] for index in range(6)], [2, 4, 5, 0, 1, 3]
    ids, mask = pad(rows)
    with torch.no_grad():
        loss = many(ids, mask, labels=torch.tensor(labels), adapter_names=names_here(names)).loss
        single = [
            alone[name](torch.tensor([row]), labels=torch.tensor([label])).loss
            for name, row, label in zip(names, rows, labels, strict=True)
        ]
    assert abs(loss - torch.stack(single).mean()) < 1e-4


def test_a_tuple_on_request(many):
    ids, mask = pad(RAGGED_ROWS)
    output = many(ids, mask, adapter_names=["probe", "default", "probe"], return_dict=False)
    assert output[0].shape == (3, 6)
    assert output[1][1] == ("a3", "b3", "c3")


def test_gathering_copies_only_what_the_batch_needs():
    lm = tiny_lm()
    assert gather_prompts([None, None], torch.tensor([0, 1]), lm) is None
    states = PromptStates(inputs=torch.ones(2, HIDDEN_SIZE))
    assert gather_prompts([states], torch.tensor([0, 0]), lm) is states
    same = gather_prompts([states, states], torch.tensor([1, 0, 0]), lm)
    assert same.inputs.shape == (3, 2, HIDDEN_SIZE) and same.input_mask is None and same.key_mask is None
    mixed = gather_prompts([states, None], torch.tensor([1, 0]), lm)
    assert mixed.input_mask.tolist() == [[False, False], [True, True]]
    assert torch.equal(mixed.separator[0], lm.get_input_embeddings().weight[0])


def test_masked_input_prompts_need_no_mask_of_tokens():
    lm = tiny_lm()
    ids = torch.tensor([[2, 5, 9, 0], [2, 7, 8, 0]])
    vectors = torch.randn(1, HIDDEN_SIZE, generator=torch.Generator().manual_seed(0))
    prompt = gather_prompts([PromptStates(inputs=vectors), None], torch.tensor([0, 1]), lm)
    with torch.no_grad():
        together = lm(ids, prompt=prompt).logits
        assert (together[0] - lm(ids[:1], prompt=PromptStates(inputs=vectors)).logits[0]).abs().max() < 1e-4
        assert (together[1] - lm(ids[1:]).logits[0]).abs().max() < 1e-4
        # Step by step from a cache.
        read = lm(ids[:, :2], prompt=prompt, use_cache=True)
        cache = read.get("cache") or read.get("past_key_values")
        stepped = lm(ids[:, 2:], prompt=prompt, past_key_values=cache).logits
    assert (stepped - together[:, 2:]).abs().max() < 1e-4


# Switching, deleting, refusing


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


# Training


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


# Other ways in


def test_an_adapter_of_a_subfolder(folders, alone):
    model = SpeechPromptForAudioClassification.from_pretrained(folders / "deep")
    model.load_adapter(folders, "probe", subfolder="probe", revision=None)
    model.set_adapter("probe")
    assert torch.equal(logits_of(model), logits_of(alone["probe"]))


def test_audio_with_an_adapter_a_row(many, alone):
    class StandInProcessor:
        """Units are the integer parts of the samples."""

        fingerprint = {"digest": "units"}  # noqa: RUF012

        def to(self, device):
            return self

        def units_from_values(self, input_values, attention_mask=None):
            return [SimpleNamespace(units=row.long()) for row in input_values]

        def prepare_units(self, units, return_tensors):
            ids, mask = pad([[2, *(row + 4).tolist(), 0] for row in units])
            return {"input_ids": ids, "attention_mask": mask}

    model = deepcopy(many).attach_processor(StandInProcessor())
    with torch.no_grad():
        mixed = model(input_values=torch.tensor([[1.5, 7.2], [3.0, 9.9]]), adapter_names=["probe", "intents"]).logits
    assert (mixed[0] - logits_of(alone["probe"], [[2, 5, 11, 0]])[0]).abs().max() < 1e-4
    assert (mixed[1, :5] - logits_of(alone["intents"], [[2, 7, 13, 0]])[0]).abs().max() < 1e-4


def test_a_rounded_base(folders):
    """Prompts are kept in float32; rows are what each task alone gives in that precision."""
    model = open_all(folders, dtype=torch.bfloat16)
    assert model.lm.dtype == torch.bfloat16
    assert model._adapters["input"].prompt.vectors.dtype == torch.float32
    ids, mask = pad(RAGGED_ROWS[:2])
    with torch.no_grad():
        mixed = model(ids, mask, adapter_names=["input", "default"]).logits
        expected = model(ids, mask).logits[1]
    assert (mixed[1, :3] - expected).abs().max() < 0.05 * expected.abs().max()
