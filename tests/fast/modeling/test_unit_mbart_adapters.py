"""Adapters of a Unit mBART: PEFT folders, doors, labels, mixed batches, training."""

import json
import subprocess
import sys

import pytest
import torch
from datasets import Dataset
from peft import AutoPeftModelForSeq2SeqLM, PeftModel
from safetensors import safe_open
from transformers import AutoModel, AutoModelForAudioClassification, AutoModelForSeq2SeqLM, TrainingArguments

from speechprompt_hf.core.errors import AdapterError, FingerprintMismatchError, LabelError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.data.collators import UnitCollator
from speechprompt_hf.modeling import SpeechPromptForAudioClassification, UnitMBartForConditionalGeneration
from speechprompt_hf.training.trainer import PromptTrainer
from tests.fixtures.many_adapters import KINDS, check_against_alone
from tests.fixtures.many_adapters import make as make_kind
from tests.fixtures.many_adapters import open_all as open_kinds
from tests.fixtures.tiny_models import PEFT_WARNING, RAGGED_ROWS, pad, randomize
from tests.fixtures.unit_mbarts import DECODER_LAYERS, ENCODER_LAYERS, MBART_UNITS, MBART_WIDTH, tiny_mbart

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING, "ignore:Position ids are not supported")
EN = 4 + MBART_UNITS
SAID = torch.tensor([[EN, 0, 7], [EN, 0, 8], [EN, 0, 21]])
NAMES = ["left", "right", "stop"]
ENCODER_TABLE = "base_model.model.encoder.encoder_prompt.table"
SEQUENCES = ((0, 5, 5), (0, 5, 6), (0, 7, 6), (1, 5, 5), (1, 7, 6), (2, 6, 5))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny_mbart().save_pretrained(folder)
    return folder


def make(base, names=NAMES, **options):
    options = {"num_virtual_tokens": 3, "separator_init": "normal", **options}
    model = SpeechPromptForAudioClassification.from_base(base, names, **options)
    if model.verbalizer.weight is not None:
        randomize(model.verbalizer, seed=1)
    return model


def scores(model, side="right", **options):
    ids, mask = pad(RAGGED_ROWS, side)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask, **options).logits


OPTIONS = [
    {},
    {"prompt_parametrization": "table"},
    {"prompt": "input"},
    {"readout": "pooled"},
    {"readout": "hidden"},
    {"verbalizer": "random"},
    {"prompt_init": "vocabulary"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_scores_survive_saving_and_do_not_depend_on_padding(base, tmp_path, options):
    model = make(base, **options)
    expected = scores(model)
    assert (scores(model, "left") - expected).abs().max() < 1e-5
    alone = torch.cat([model(input_ids=torch.tensor([row])).logits for row in RAGGED_ROWS])
    assert (alone - expected).abs().max() < 1e-5
    model.save_pretrained(tmp_path)
    opened = AutoModel.from_pretrained(tmp_path)
    assert type(opened) is SpeechPromptForAudioClassification
    assert (scores(opened) - expected).abs().max() < 1e-5
    if options.get("verbalizer") == "random":
        tokens = opened.verbalizer.unit_token_of_row
        assert tokens.min() >= 4 and tokens.max() < EN


@pytest.mark.parametrize("kind", ["deep", "input"])
@torch.no_grad()
def test_stock_peft_gives_the_same_numbers(base, tmp_path, kind):
    model = make(base, prompt=kind, prompt_dropout=0.0)
    model.save_pretrained(tmp_path)
    lm = UnitMBartForConditionalGeneration.from_pretrained(base).eval()
    inputs = lm.encoder_inputs(*pad(RAGGED_ROWS))
    plain = lm(**inputs, decoder_input_ids=SAID).logits
    unprompted = lm.generate(**inputs, max_new_tokens=8).tolist()
    states = model.prompt.states(model.lm)
    ours = model.lm(**inputs, decoder_input_ids=SAID, prompt=states).logits
    assert (ours - plain).abs().max() > 0.3
    peft = PeftModel.from_pretrained(lm, tmp_path).eval()
    for opened in (peft, AutoPeftModelForSeq2SeqLM.from_pretrained(tmp_path), model.to_peft()):
        assert type(opened).__name__ == "PeftModelForSeq2SeqLM"
        assert (opened(**inputs, decoder_input_ids=SAID).logits - ours).abs().max() < 1e-5
    # Its first decoder column is the separator's, which the verbalizer reads.
    first = model.verbalizer.scores_at(peft(**inputs, decoder_input_ids=SAID).logits[:, 0], 0)
    assert (first - scores(model)).abs().max() < 1e-5
    said = peft.generate(**inputs, max_new_tokens=8)
    assert said.tolist() == model.lm.generate(**inputs, prompt=states, max_new_tokens=8).tolist()
    assert kind == "input" or said.tolist() != unprompted
    with peft.disable_adapter():
        assert (peft(**inputs, decoder_input_ids=SAID).logits - plain).abs().max() < 1e-6
        if kind == "deep":
            assert peft.generate(**inputs, max_new_tokens=8).tolist() == unprompted


def test_the_folder_is_a_peft_adapter(base, tmp_path):
    make(base).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["task_type"]) == ("PREFIX_TUNING", "SEQ_2_SEQ_LM")
    assert config["num_transformer_submodules"] == 1 and config["num_layers"] == DECODER_LAYERS
    assert config["modules_to_save"] == ["separator", "encoder_prompt"]
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        shapes = {key: tuple(file.get_tensor(key).shape) for key in file.keys()}  # noqa: SIM118
    assert shapes == {
        "prompt_embeddings": (3, 2 * DECODER_LAYERS * MBART_WIDTH),
        ENCODER_TABLE: (3, 2 * ENCODER_LAYERS * MBART_WIDTH),
        "base_model.model.encoder.embed_tokens.separator.offset": (1, MBART_WIDTH),
        "base_model.model.encoder.embed_tokens.separator.num_prompt_columns": (),
    }
    assert json.loads((tmp_path / "config.json").read_text())["num_units"] == MBART_UNITS


def test_without_the_encoder_part_the_numbers_are_others(base, tmp_path):
    """What stock prefix tuning alone would do: nothing in the encoder."""
    model = make(base)
    model.save_pretrained(tmp_path)
    opened = AutoPeftModelForSeq2SeqLM.from_pretrained(tmp_path)
    inputs = opened.base_model.encoder_inputs(*pad(RAGGED_ROWS))
    with torch.no_grad():
        before = opened(**inputs, decoder_input_ids=SAID)
        wrapper = opened.base_model.model.encoder.encoder_prompt
        wrapper.modules_to_save["default"].table.data = torch.zeros(0, 2 * ENCODER_LAYERS * MBART_WIDTH)
        after = opened(**inputs, decoder_input_ids=SAID)
    assert (before.encoder_last_hidden_state - after.encoder_last_hidden_state).abs().max() > 0.05


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForAudioClassification, AutoModelForSeq2SeqLM])
def test_every_door_opens(base, tmp_path, auto):
    make(base).save_pretrained(tmp_path)
    opened = auto.from_pretrained(tmp_path)
    expected = "PeftModelForSeq2SeqLM" if auto is AutoModelForSeq2SeqLM else "SpeechPromptForAudioClassification"
    assert type(opened).__name__ == expected
    if auto is AutoModelForAudioClassification:
        with pytest.raises(AdapterError, match="without a prompt"):
            auto.from_pretrained(base)
    else:
        assert type(auto.from_pretrained(base)).__name__.startswith("UnitMBart")


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_scores(base, tmp_path):
    model = make(base)
    model.save_pretrained(tmp_path)
    code = (
        "import sys, json, torch, speechprompt_hf; from transformers import AutoModel\n"
        "model = AutoModel.from_pretrained(sys.argv[1])\n"
        "print(json.dumps(model(input_ids=torch.tensor([json.loads(sys.argv[2])])).logits.tolist()))"
    )
    row = list(RAGGED_ROWS[1])
    command = [sys.executable, "-c", code, str(tmp_path), json.dumps(row)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = torch.tensor(json.loads(done.stdout.splitlines()[-1]))
    assert (found - model(input_ids=torch.tensor([row])).logits).abs().max() < 1e-5


def test_damaged_and_foreign_folders_are_refused(base, tmp_path):
    from safetensors.torch import load_file, save_file

    model = make(base)
    model.save_pretrained(tmp_path / "adapter")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file({key: value for key, value in tensors.items() if key != ENCODER_TABLE}, weights)
    with pytest.raises(AdapterError, match=r"lacks base_model\.model\.encoder\.encoder_prompt\.table"):
        SpeechPromptForAudioClassification.from_pretrained(tmp_path / "adapter")
    save_file({**tensors, ENCODER_TABLE: tensors[ENCODER_TABLE][:, :8].contiguous()}, weights)
    with pytest.raises(AdapterError, match=r"encoder_prompt.table has shape \(3, 8\)"):
        SpeechPromptForAudioClassification.from_pretrained(tmp_path / "adapter")
    save_file(tensors, weights)
    tiny_mbart(seed=5).save_pretrained(tmp_path / "other")
    with pytest.raises(FingerprintMismatchError):
        SpeechPromptForAudioClassification.from_pretrained(tmp_path / "adapter", base=tmp_path / "other")
    spanish = UnitMBartForConditionalGeneration.from_pretrained(base, language="es")
    with pytest.raises(FingerprintMismatchError):
        SpeechPromptForAudioClassification.from_pretrained(tmp_path / "adapter", base=spanish)


def test_fixed_maps_have_no_more_labels_than_units(base):
    names = [f"c{index}" for index in range(MBART_UNITS + 1)]
    with pytest.raises(LabelError, match=f"{MBART_UNITS + 1} labels cannot each have a unit of their own among 26"):
        make(base, names, verbalizer="random")
    units = [[MBART_UNITS - 1] * 3 + [1] * 2 + [0]]
    model = make(base, verbalizer="frequency", training_units=units)
    assert model.verbalizer.unit_token_of_row.tolist() == [EN - 1, 5, 4]


def brute_force(model, row):
    """Log-probability of every class by one cache-free forward pass for every prefix."""
    states, verbalizer = model.prompt.states(model.lm), model.verbalizer
    rows, embedding = verbalizer.rows, model.lm.get_input_embeddings()
    feedback = verbalizer.feedback(embedding)
    inputs = model.lm.encoder_inputs(torch.tensor([row]))
    start = (states.separator * embedding.scale)[None, None]
    found = []
    for class_rows in rows.row_of_class.tolist():
        total = 0.0
        for position, label in enumerate(class_rows):
            said = torch.cat([start, feedback[class_rows[:position]].unsqueeze(0)], 1)
            logits = model.lm(**inputs, decoder_inputs_embeds=said, prompt=states, use_cache=False).logits[0, -1]
            part = rows.slices[position]
            total += verbalizer.scores_at(logits, position).log_softmax(-1)[label - part.start]
        found.append(total)
    return torch.stack(found)


@torch.no_grad()
def slow_greedy(model, row):
    """The best label among those that continue a known sequence, one cache-free forward pass a label."""
    states, verbalizer, embedding = model.prompt.states(model.lm), model.verbalizer, model.lm.get_input_embeddings()
    feedback, classes = verbalizer.feedback(embedding), verbalizer.rows.row_of_class.tolist()
    said, possible = (states.separator * embedding.scale)[None, None], list(range(len(classes)))
    inputs = model.lm.encoder_inputs(torch.tensor([row]))
    for position in range(3):
        logits = model.lm(**inputs, decoder_inputs_embeds=said, prompt=states, use_cache=False).logits[0, -1]
        scores = verbalizer.scores_at(logits, position)
        start = verbalizer.rows.slices[position].start
        best = max((classes[index][position] for index in possible), key=lambda label: float(scores[label - start]))
        possible = [index for index in possible if classes[index][position] == best]
        said = torch.cat([said, feedback[best][None, None]], 1)
    return possible[0]


@pytest.mark.parametrize(
    ("options", "attn_implementation"),
    [
        ({}, "sdpa"),
        ({}, "eager"),
        ({"prompt": "input"}, "sdpa"),
        ({"label_feedback": "mixture"}, "sdpa"),
        ({"verbalizer": "random"}, "sdpa"),
    ],
    ids=str,
)
def test_label_sequences_have_exact_scores(options, attn_implementation):
    names = [f"class {index}" for index in range(len(SEQUENCES))]
    model = make(tiny_mbart(attn_implementation=attn_implementation), names, label_sequences=SEQUENCES, **options)
    with torch.no_grad():
        expected = torch.stack([brute_force(model, row) for row in RAGGED_ROWS])
        assert (scores(model) - expected).abs().max() < 1e-4
        assert (scores(model, "left") - expected).abs().max() < 1e-4
        assert expected.std() > 0.1
        ids, mask = pad(RAGGED_ROWS)
        labels = torch.tensor([3, 0, 5])
        model.train()
        model.config.prompt_dropout = 0.0
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        assert loss == pytest.approx(float(-expected[torch.arange(3), labels].mean()), abs=1e-4)
        model.eval()
        greedy = model.decode(ids, mask, mode="greedy")
    for index, row in zip(greedy.tolist(), RAGGED_ROWS, strict=True):
        assert index == slow_greedy(model, row)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    lm = tiny_mbart()
    lm.save_pretrained(folder / "base")
    lm = UnitMBartForConditionalGeneration.from_pretrained(folder / "base")
    for name, (num_classes, options) in KINDS.items():
        make_kind(lm, num_classes, **options).save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def opened_kinds(kinds):
    lm = UnitMBartForConditionalGeneration.from_pretrained(kinds / "base")
    alone = {name: SpeechPromptForAudioClassification.from_pretrained(kinds / name, base=lm) for name in KINDS}
    return open_kinds(kinds), alone


@pytest.mark.parametrize("side", ["right", "left"])
def test_mixed_batches_equal_each_adapter_alone(opened_kinds, side):
    many, alone = opened_kinds
    names = [*KINDS, "intents", "deep"]
    rows = [[2, *range(5, 6 + index % 7), 0] for index in range(len(names))]
    check_against_alone(many, alone, rows, names, side)
    only = ["intents", "mixture", "probed intents"]
    check_against_alone(many, alone, rows[:3], only, side)


def toy_rows(num_rows, seed):
    """The class is heard in one unit of the utterance."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (num_rows,), generator=generator)
    rows = []
    for label in labels.tolist():
        units = torch.randint(10, MBART_UNITS, (8,), generator=generator).tolist()
        units[2] = label
        rows.append({"units": units, "labels": label})
    return rows


def test_the_trainer_teaches_a_prompt(base, tmp_path):
    model = make(base, num_virtual_tokens=5, prompt_dropout=0.0)
    frozen = {name: value.clone() for name, value in model.lm.named_parameters()}
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=12,
        per_device_train_batch_size=16,
        learning_rate=0.05,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=True,
    )
    trainer = PromptTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(toy_rows(96, 0)),
        data_collator=UnitCollator(UnitVocabulary.from_num_units(MBART_UNITS), model.lm.max_utterance_tokens),
    )
    trainer.train()
    model.eval()
    batch = UnitCollator(UnitVocabulary.from_num_units(MBART_UNITS))(toy_rows(60, 1))
    with torch.no_grad():
        predicted = model(batch["input_ids"], batch["attention_mask"]).logits.argmax(-1)
    assert (predicted == batch["labels"]).float().mean() > 0.8
    assert all(torch.equal(value, frozen[name]) for name, value in model.lm.named_parameters())


def test_gradient_checkpointing_gives_the_same_gradients():
    ids, mask = pad(RAGGED_ROWS)
    gradients = []
    for wanted in (False, True):
        model = make(tiny_mbart(), prompt_dropout=0.0, seed=3)
        if wanted:
            # transformers 5.24 renamed it.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable()
        model.train()
        model(input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 1, 2])).loss.backward()
        gradients.append((model.prompt.keys.grad, model.prompt.values.grad))
        # Every layer of both stacks learns.
        assert (model.prompt.values.grad.flatten(1).abs().amax(1) > 0).all()
    assert all((one - other).abs().max() < 1e-6 for one, other in zip(*gradients, strict=True))


def test_a_fine_tuned_model_is_saved_whole(base, tmp_path):
    model = make(base, method="finetune")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "language_model" / "model.safetensors").is_file()
    opened = SpeechPromptForAudioClassification.from_pretrained(tmp_path)
    assert (scores(opened) - scores(model)).abs().max() < 1e-5
    assert all(
        not parameter.requires_grad for name, parameter in model.lm.named_parameters() if "encoder_prompt" in name
    )
