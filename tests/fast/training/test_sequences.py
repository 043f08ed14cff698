import json
import math
from dataclasses import replace

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModel, AutoModelForSpeechSeq2Seq, TrainerCallback

from speechprompt_hf import UNIT_MBART_BASE, SpeechPromptForSequenceGeneration
from speechprompt_hf.core.errors import ConfigurationError, LabelError, UnitError
from speechprompt_hf.data import Splits, task_tokenizer
from speechprompt_hf.evaluation import evaluate_sequences, say_rows, sequence_score, validate_sequence_report
from speechprompt_hf.tasks import SequenceTask, slot_filling
from speechprompt_hf.training import SequenceTrainingSettings, run_sequence_experiment, train_sequences
from speechprompt_hf.training.run_parts import training_arguments
from tests.fixtures.text_tasks import spoken_splits
from tests.fixtures.tiny_models import PEFT_WARNING, tiny_lm
from tests.fixtures.unit_mbarts import tiny_mbart

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)

TASK = SequenceTask("words", tokens="words", metrics=("wer", "cer"))
EXACT = SequenceTrainingSettings(num_epochs=2, num_virtual_tokens=3, batch_size=16, patience=9, warmup_steps=2)
STEPS = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}


@pytest.fixture(scope="module")
def long_base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long_base")
    tiny_lm(std=0.15, max_position_embeddings=160).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def spoken():
    return spoken_splits()


def run(base, splits, folder, settings=EXACT, task=TASK, **options):
    return train_sequences(task, splits, base, settings, output_dir=folder, progress=False, **options)


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
def first_run(long_base, spoken, tmp_path_factory):
    folder = tmp_path_factory.mktemp("first") / "adapter"
    return run(long_base, spoken, folder), folder


def test_a_language_model_learns_to_say_what_is_heard(long_base, spoken, tmp_path):
    settings = SequenceTrainingSettings(num_epochs=20, finetune_learning_rate=4e-3, warmup_steps=5, unit_dropout=0.0)
    result = run(long_base, spoken, tmp_path, settings, method="finetune")
    # Saying one word always is 0.7.
    assert result.validation_metric < 0.6, result.history
    assert result.validation_metric == min(entry["validation_wer"] for entry in result.history)
    said = [answer.text for answer in say_rows(result.model, spoken.validation, result.vocabulary)]
    assert sequence_score("wer", spoken.validation["label"], said) == pytest.approx(result.validation_metric)
    opened = SpeechPromptForSequenceGeneration.from_pretrained(tmp_path)
    assert [answer.text for answer in say_rows(opened, spoken.validation)] == said


def test_a_prompt_alone_changes(long_base, spoken, first_run):
    result, folder = first_run
    names = {name.split(".")[0] for name in trained(result.model)}
    assert names == {"prompt", "verbalizer"} and result.trained_parameters == result.model.num_trained_parameters()
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "config.json",
        "dict.txt",
        "output_tokenizer.json",
        "verbalizer.safetensors",
    ]
    assert [set(entry) for entry in result.history] == [
        {"epoch", "step", "train_loss", "validation_loss", "validation_wer", "validation_cer"}
    ] * 2
    assert result.history[0]["validation_loss"] > result.history[1]["validation_loss"]
    # Half more than the longest text of training, three words and the end.
    assert result.model.config.max_output_tokens == 6


def test_evaluation_leaves_the_generation_settings_alone(first_run):
    result, _ = first_run
    assert result.model.generation_config.max_length in (None, 20)
    assert result.model.generation_config.max_new_tokens is None
    assert result.model.config.max_output_tokens == 6


@pytest.mark.parametrize("opener", [AutoModel, AutoModelForSpeechSeq2Seq, SpeechPromptForSequenceGeneration])
def test_the_adapter_says_the_same_when_it_is_opened(first_run, spoken, opener):
    result, folder = first_run
    before = say_rows(result.model, spoken.test, result.vocabulary, num_beams=2)
    after = say_rows(opener.from_pretrained(folder), spoken.test, num_beams=2)
    assert [answer.text for answer in before] == [answer.text for answer in after]
    assert max(abs(left.score - right.score) for left, right in zip(before, after, strict=True)) < 1e-4


def test_scores_are_mean_log_probabilities(first_run, spoken):
    result, _ = first_run
    model, rows = result.model, spoken.test.select(range(6))
    for answer, units in zip(say_rows(model, rows, result.vocabulary), rows["units"], strict=True):
        tokens = torch.tensor([model.output_tokenizer(answer.text).input_ids])
        ids = torch.tensor([result.vocabulary.input_ids(units)])
        with torch.no_grad():
            logits = model(input_ids=ids, labels=tokens).logits
        logits[..., 3] = -torch.inf
        expected = logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).mean()
        if tokens.shape[1] <= model.config.max_output_tokens:
            assert answer.score == pytest.approx(float(expected), abs=1e-4)


def test_the_same_seed_gives_the_same_adapter_and_another_one_not(long_base, spoken, first_run, tmp_path):
    again = run(long_base, spoken, tmp_path / "again")
    other = run(long_base, spoken, tmp_path / "other", seed=1)
    assert largest_difference(trained(first_run[0].model), trained(again.model)) == 0
    assert largest_difference(trained(first_run[0].model), trained(other.model)) > 1e-3


def test_a_resumed_run_equals_a_straight_one(long_base, spoken, tmp_path):
    settings = replace(EXACT, num_epochs=1)
    kept = {**STEPS, "load_best_model_at_end": False}
    straight = run(long_base, spoken, tmp_path / "straight", settings, **kept)
    with pytest.raises(StoppedError):
        run(long_base, spoken, tmp_path / "resumed", settings, **kept, callbacks=[StopAtTheFirstSave()])
    with pytest.raises(ConfigurationError, match=r"task.tokens \(was \"words\", is \"characters\"\)"):
        run(long_base, spoken, tmp_path / "resumed", settings, replace(TASK, tokens="characters"), resume=True, **kept)
    with pytest.raises(ConfigurationError, match=r"settings.num_virtual_tokens \(was 3, is 4\)"):
        run(long_base, spoken, tmp_path / "resumed", replace(settings, num_virtual_tokens=4), resume=True, **kept)
    resumed = run(long_base, spoken, tmp_path / "resumed", settings, resume=True, **kept)
    assert [entry["step"] for entry in resumed.history] == [2.0, 4.0]
    assert largest_difference(trained(straight.model), trained(resumed.model)) == 0
    assert straight.history[-1]["validation_loss"] == resumed.history[-1]["validation_loss"]


def test_patience_counts_error_rates_downwards(long_base, spoken, tmp_path):
    settings = replace(EXACT, num_epochs=5, patience=1, learning_rate=1e-7)
    result = run(long_base, spoken, tmp_path, settings)
    rates = [entry["validation_wer"] for entry in result.history]
    assert len(rates) == 2 and result.validation_metric == min(rates)


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "input"},
        {"verbalizer": "frequency"},
        {"verbalizer": "random", "label_feedback": "token"},
        {"label_feedback": "mixture"},
        {"prompt_init": "frequent_units", "prompt_layers": "upper"},
        {"gradient_checkpointing": True},
        {"bf16": True},
        {"num_beams": 2},
    ],
    ids=str,
)
def test_every_setting_trains(long_base, spoken, tmp_path, options):
    small = Splits(spoken.train.select(range(16)), spoken.validation.select(range(4)), spoken.test.select(range(4)))
    result = run(long_base, small, tmp_path, replace(EXACT, num_epochs=1, **options))
    assert math.isfinite(result.history[0]["train_loss"])
    assert {value.dtype for value in trained(result.model).values()} == {torch.float32}


def test_an_encoder_decoder_base_trains(spoken, tmp_path):
    small = Splits(spoken.train.select(range(16)), spoken.validation.select(range(4)), spoken.test.select(range(4)))
    result = run(tiny_mbart(), small, tmp_path, replace(EXACT, num_epochs=1))
    assert math.isfinite(result.history[0]["validation_wer"])


def test_long_texts_of_validation_have_room_too(base, spoken, tmp_path):
    splits = Splits(spoken.train.select(range(8)), spoken.validation.select(range(4)), spoken.test.select(range(4)))
    long = splits.validation.map(lambda row: {"label": " ".join(["left"] * 9), "units": [1, 2] * 14})
    result = run(base, replace(splits, validation=long), tmp_path, replace(EXACT, num_epochs=1))
    assert result.model.config.max_output_tokens == 10
    # 40 positions: 29 units, the two tokens around them, and nine tokens of an answer.
    longer = long.map(lambda row: {"units": [1, 2] * 15})
    with pytest.raises(UnitError, match=r"utterance 0 \(validation\) has 30 units, more than the 29"):
        run(base, replace(splits, validation=longer), tmp_path, replace(EXACT, num_epochs=1))


def test_answers_that_leave_no_room_are_told(base, spoken, tmp_path):
    with pytest.raises(ConfigurationError, match=r"answers of up to 39 tokens leave no room .* base of 40 positions"):
        run(base, spoken, tmp_path, max_output_tokens=39)
    long = spoken.train.map(lambda row: {"label": " ".join(["left"] * 60)})
    with pytest.raises(ConfigurationError, match=r"leave no room .* \(lower the task's max_tokens"):
        run_sequence_experiment(replace(spoken, train=long), tmp_path, task=TASK, base=base, progress=False)


def test_an_output_vocabulary_can_be_given(long_base, spoken, tmp_path):
    splits = Splits(spoken.train.select(range(8)), spoken.validation.select(range(4)), spoken.test.select(range(4)))
    tokenizer = task_tokenizer(TASK, ["left right stop rare"])
    options = {"tokenizer": tokenizer, "max_output_tokens": 4}
    result = run(long_base, splits, tmp_path, replace(EXACT, num_epochs=1), **options)
    assert result.model.output_tokenizer is tokenizer and result.model.config.max_output_tokens == 4


def test_what_cannot_be_trained_is_refused_before_training(base, long_base, spoken, tmp_path):
    recordings = spoken.test.remove_columns("units").add_column("audio", [b""] * len(spoken.test))
    with pytest.raises(ConfigurationError, match="hold recordings"):
        run(long_base, Splits(recordings, recordings, recordings), tmp_path)
    # 40 positions: 35 units, the two tokens around them, and six tokens of an answer.
    long = spoken.test.map(lambda row, index: {"units": [1, 2] * 17} if index == 3 else {}, with_indices=True)
    with pytest.raises(UnitError, match=r"utterance 3 \(test\) has 34 units, more than the 33"):
        run(base, Splits(spoken.train, spoken.validation, long), tmp_path)
    strange = spoken.train.map(lambda row: {"units": [99]})
    with pytest.raises(UnitError, match="unit 99"):
        run(long_base, Splits(strange, spoken.validation, spoken.test), tmp_path)
    with pytest.raises(LabelError, match=r"the text of utterance \d+ \(train\) has 4 tokens, more than 3"):
        run(long_base, spoken, tmp_path, task=replace(TASK, max_tokens=3))
    silent = spoken.train.map(lambda row: {"label": ""})
    with pytest.raises(LabelError, match="no text has anything in it"):
        run(long_base, Splits(silent, spoken.validation, spoken.test), tmp_path)
    with pytest.raises(ConfigurationError, match="'probe' generates no sequences"):
        run(long_base, spoken, tmp_path, method="probe")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_epochs": 0}, "num_epochs"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"schedule": "zigzag"}, "zigzag"),
        ({"prompt_init": "class_means"}, "prompt_init is 'class_means' for a task without classes"),
        ({"prompt": "input", "prompt_layers": "upper"}, "prompt_layers is 'upper' with an input prompt"),
    ],
)
def test_impossible_settings_are_refused(options, words):
    with pytest.raises(ConfigurationError, match=words):
        SequenceTrainingSettings(**options)


@pytest.fixture(scope="module")
def experiment(long_base, tmp_path_factory):
    splits = spoken_splits(32, 16, slots=True)
    folder = tmp_path_factory.mktemp("experiment") / "adapter"
    settings = replace(EXACT, num_epochs=1)
    return run_sequence_experiment(
        splits, folder, task=slot_filling, base=long_base, settings=settings, progress=False
    ), folder


def test_the_report_is_valid_and_complete(experiment):
    made, folder = experiment
    report = json.loads((folder / "report.json").read_text())
    validate_sequence_report(report)
    assert report == json.loads(json.dumps(made.report))
    assert report["metric"] == "slot_f1" and set(report["scores"]) == {"slot_f1", "slot_value_cer"}
    assert report["interval"]["over"] == "speakers"
    baseline = report["baselines"]["most_frequent"]
    assert baseline["counted_on"] == "training rows" and 0 < baseline["scores"]["slot_f1"] < 1
    assert set(report["examples"][0]) == {"item", "reference", "said", "score"}
    assert report["task"]["name"] == "slot_filling" and report["versions"]["jiwer"] != "absent"
    assert report["num_rows"] == {"train": 32, "validation": 16, "test": 16} and not report["skips"]
    assert (folder / "trained_rows.json").is_file()


def test_the_model_card_has_the_report(experiment):
    made, folder = experiment
    card = ModelCard.load(folder / "README.md")
    scores = {each.metric_type: each.metric_value for each in card.data.eval_results}
    assert scores == {name: pytest.approx(each["value"]) for name, each in made.report["scores"].items()}
    assert "| slot F1 |" in card.text and "| the most frequent text |" in card.text
    assert "speechprompt predict" in card.text and "UNITS.parquet" in card.text


def test_an_adapter_is_measured_again(experiment):
    made, folder = experiment
    again = evaluate_sequences(folder, made.splits.test, progress=False)
    assert again["scores"] == made.report["scores"] and again["baselines"] == made.report["baselines"]
    # Utterances are short here: some of the test are also in training, and in validation.
    known = [warning.split(" of the adapter")[0].split(" of ", 1)[1] for warning in again["warnings"]]
    assert known == ["16 rows have the same units as train rows", "16 rows have the same units as validation rows"]
    trained_rows = evaluate_sequences(folder, made.splits.train, progress=False)
    warning = "these are the train rows of the adapter's own training: what is measured says little"
    assert trained_rows["warnings"][0] == warning


def test_without_a_report_the_task_has_to_be_named(first_run, spoken):
    _, folder = first_run
    with pytest.raises(ConfigurationError, match=r"what its task is.*--task"):
        evaluate_sequences(folder, spoken.test, progress=False)
    report = evaluate_sequences(folder, spoken.test, task=TASK, progress=False)
    assert report["baselines"]["most_frequent"]["counted_on"] == "measured rows"


def test_a_probe_is_refused_before_data_are_read(tmp_path):
    with pytest.raises(ConfigurationError, match=r"'probe' generates no sequences \('prompt' or 'finetune'\)"):
        run_sequence_experiment(tmp_path / "nothing", tmp_path / "a", task=TASK, method="probe", progress=False)


def test_texts_and_utterances_that_are_too_long_are_left_out(long_base, tmp_path):
    splits = spoken_splits(32, 16)
    task = replace(TASK, max_tokens=3)
    long = splits.test.map(lambda row, index: {"units": [1, 2] * 90} if index == 3 else {}, with_indices=True)
    made = run_sequence_experiment(
        replace(splits, test=long),
        tmp_path,
        task=task,
        base=long_base,
        settings=replace(EXACT, num_epochs=1),
        progress=False,
    )
    kinds = {skip["error"] for skip in made.report["skips"]}
    assert kinds == {"LabelError", "UnitError"} and made.report["num_rows"]["test"] == 15
    assert max(len(text.split()) for text in made.splits.train["label"]) == 2


def test_tokens_of_left_out_texts_are_no_outputs(long_base, tmp_path):
    splits = spoken_splits(32, 16)
    train = splits.train.map(
        lambda row, index: {"label": "word " * 9 + "rare"} if index == 0 else {}, with_indices=True
    )
    made = run_sequence_experiment(
        replace(splits, train=train),
        tmp_path,
        task=replace(TASK, max_tokens=5),
        base=long_base,
        settings=replace(EXACT, num_epochs=1),
        progress=False,
    )
    (skipped,) = made.report["skips"]
    assert "10 tokens, more than 5" in skipped["message"] or "11 tokens, more than 5" in skipped["message"]
    assert not {"word", "rare"} & made.result.model.output_tokenizer.get_vocab().keys()


@pytest.mark.parametrize(
    ("num_rows", "further", "warmup"),
    [
        (4000, {}, 100),
        (160, {}, 50),  # 10 updates an epoch, 500 in all
        (161, {"num_train_epochs": 2}, 2),
        (160, {"gradient_accumulation_steps": 5}, 10),
        (160, {"max_steps": 30}, 3),
        (5, {"num_train_epochs": 1}, 0),
        (5, {"warmup_steps": 77}, 77),
    ],
)
def test_the_warm_up_is_a_tenth_of_all_updates_at_most(tmp_path, num_rows, further, warmup):
    arguments = training_arguments(
        tmp_path,
        SequenceTrainingSettings().trainer_options("prompt"),
        seed=0,
        metric="wer",
        greater_is_better=False,
        gradient_checkpointing=False,
        num_rows=num_rows,
        further=further,
    )
    assert arguments.warmup_steps == warmup


def test_a_report_says_what_to_try_where_little_was_learnt(long_base, tmp_path):
    quick = SequenceTrainingSettings(num_epochs=1, num_virtual_tokens=2, learning_rate=1e-6)
    poor = run_sequence_experiment(
        spoken_splits(), tmp_path / "poor", task=TASK, base=long_base, settings=quick, progress=False
    ).report
    (advice,) = [warning for warning in poor["warnings"] if "no better than always saying" in warning]
    assert "--learning-rate" in advice and UNIT_MBART_BASE in advice
