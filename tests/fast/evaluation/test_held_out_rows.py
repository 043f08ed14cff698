"""`evaluate_adapter` finds the part that the training held out, and says which rows the adapter knows."""

import json

import pytest
from datasets import concatenate_datasets

from speechprompt_hf import SpeechPromptForSequenceGeneration
from speechprompt_hf.core.errors import DatasetError
from speechprompt_hf.evaluation import evaluate_adapter, evaluate_sequences
from speechprompt_hf.tasks import SequenceTask
from speechprompt_hf.training import (
    SequenceTrainingSettings,
    TrainingSettings,
    run_experiment,
    run_sequence_experiment,
)
from tests.fixtures.text_tasks import spoken
from tests.fixtures.tiny_models import PEFT_WARNING, tiny_lm
from tests.fixtures.unit_tasks import utterances

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)

SETTINGS = TrainingSettings(num_epochs=1, num_virtual_tokens=2, batch_size=8)


def write_rows(rows, path, **names):
    path.parent.mkdir(exist_ok=True)
    rows.rename_columns(names).to_parquet(str(path))
    return path


def trained(source, base, folder, **options):
    return run_experiment(source, folder, base=base, settings=SETTINGS, progress=False, **options).report


@pytest.fixture(scope="module")
def one_table(base, tmp_path_factory):
    """Trained on a table without parts, with other names of the columns; the second seed."""
    folder = tmp_path_factory.mktemp("one_table")
    table = write_rows(utterances(80, 0, "abcde"), folder / "data.parquet", speaker="spk", label="word")
    report = trained(table, base, folder / "adapter", speaker_column="spk", label_column="word", seed=1)
    return table, folder / "adapter", report


def test_the_report_says_how_the_parts_were_made(one_table):
    _, adapter, report = one_table
    split = json.loads((adapter / "report.json").read_text())["data"]["split"]
    assert split == report["data"]["split"]
    assert (split["speaker_column"], split["label_column"], split["seed"]) == ("spk", "word", 1)
    assert (split["validation_fraction"], split["test_fraction"]) == (0.15, 0.2)
    assert split["carved"] == ["validation", "test"]


@pytest.mark.parametrize("part", ["test", "validation", "train"])
def test_the_columns_and_parts_of_the_training_are_found_again(one_table, part):
    table, adapter, report = one_table
    measured = evaluate_adapter(adapter, table, split=part, progress=False)
    assert measured["num_rows"] == {part: report["num_rows"][part]}
    assert f"only its {part} part" in measured["warnings"][0]
    assert any("own training" in warning for warning in measured["warnings"]) == (part != "test")
    if part == "test":
        assert measured["accuracy"] == report["accuracy"] and measured["interval"]["over"] == "rows"


def test_rows_that_another_split_would_take_for_new_ones_are_counted(one_table):
    table, adapter, report = one_table
    # Without speakers the parts are others: nothing is held out, and the reader must know it.
    measured = evaluate_adapter(adapter, table, speaker_column="", progress=False)
    assert measured["num_rows"] == {"test": 80}
    rows = report["num_rows"]
    assert [warning.split(" own training")[0] for warning in measured["warnings"]] == [
        f"{rows[part]} of 80 rows have the same units as {part} rows of the adapter's"
        for part in ("train", "validation")
    ]


def test_another_data_set_with_known_rows_among_new_ones(one_table, tmp_path):
    _, adapter, _ = one_table
    known = utterances(80, 0, "abcde")
    report = evaluate_adapter(adapter, utterances(30, 9), progress=False)
    assert not report["warnings"]
    mixed = concatenate_datasets([utterances(30, 9), known])
    # Other names of the columns than in the training.
    other = write_rows(mixed, tmp_path / "mixed.parquet")
    counts = [warning.split()[0] for warning in evaluate_adapter(adapter, other, progress=False)["warnings"]]
    carved = json.loads((adapter / "report.json").read_text())["num_rows"]
    assert counts == [str(carved["train"]), str(carved["validation"])]


def test_an_adapter_of_an_earlier_version_is_compared_whole(one_table, tmp_path):
    import shutil

    table, adapter, report = one_table
    shutil.copytree(adapter, tmp_path / "old")
    (tmp_path / "old" / "trained_rows.json").unlink()
    old = json.loads((tmp_path / "old" / "report.json").read_text())
    del old["data"]["split"]
    (tmp_path / "old" / "report.json").write_text(json.dumps(old))
    given = {"label_column": "word", "speaker_column": "spk"}
    measured = evaluate_adapter(tmp_path / "old", table, split="train", **given, progress=False)
    assert measured["num_rows"] == {"train": report["num_rows"]["train"]}
    assert "train rows of the adapter's own training" in measured["warnings"][1]


def test_a_validation_part_that_was_taken_out_of_a_given_training_part(base, tmp_path):
    data = tmp_path / "data"
    write_rows(utterances(60, 0, "abcd"), data / "train.parquet")
    write_rows(utterances(24, 2, "gh"), data / "test.parquet")
    report = trained(data, base, tmp_path / "adapter")
    assert report["data"]["split"]["carved"] == ["validation"]
    assert report["num_rows"]["train"] + report["num_rows"]["validation"] == 60
    for part, rows in report["num_rows"].items():
        measured = evaluate_adapter(tmp_path / "adapter", data, split=part, progress=False)
        assert measured["num_rows"] == {part: rows}
        assert any("own training" in warning for warning in measured["warnings"]) == (part != "test")
    write_rows(utterances(60, 7, "abcd"), data / "train.parquet")
    with pytest.raises(DatasetError, match="has no part 'validation'"):
        evaluate_adapter(tmp_path / "adapter", data, split="validation", progress=False)


def test_a_model_in_memory_has_no_report(one_table, base, tmp_path, monkeypatch):
    from speechprompt_hf import SpeechPromptForAudioClassification

    _, adapter, _ = one_table
    monkeypatch.chdir(adapter)
    model = SpeechPromptForAudioClassification.from_base(base, ["left", "right", "stop"], num_virtual_tokens=2)
    model.config._name_or_path = ""
    assert not evaluate_adapter(model, utterances(80, 0, "abcde"), progress=False)["warnings"]


def test_the_majority_is_that_of_the_training(base, tmp_path):
    """Of other rows than those of the training another label is the most frequent one."""
    rows = utterances(60, 0)
    many = rows.select([row for row, label in enumerate(rows["label"]) if label == "stop" or row < 30])
    report = trained(write_rows(many, tmp_path / "data.parquet"), base, tmp_path / "adapter")
    said = report["baselines"]["majority"]
    assert (said["label"], said["counted_on"]) == ("stop", "training rows")
    # Of the part that the training held out both say the same.
    held_out = evaluate_adapter(tmp_path / "adapter", tmp_path / "data.parquet", progress=False)
    assert held_out["baselines"]["majority"]["accuracy"] == said["accuracy"]
    others = utterances(40, 9)
    others = others.select([row for row, label in enumerate(others["label"]) if label == "left" or row < 6])
    share = list(others["label"]).count("stop") / len(others)
    measured = evaluate_adapter(tmp_path / "adapter", others, progress=False)["baselines"]["majority"]
    assert (measured["label"], measured["counted_on"]) == ("stop", "training rows")
    assert measured["accuracy"] == pytest.approx(share) and share < 0.2
    # A report of an earlier version does not tell it, and an adapter from elsewhere has none.
    path = tmp_path / "adapter" / "report.json"
    values = json.loads(path.read_text())
    for label in (None, ["stop"], "no label of this adapter"):
        values["baselines"]["majority"]["label"] = label
        path.write_text(json.dumps(values))
        measured = evaluate_adapter(tmp_path / "adapter", others, progress=False)["baselines"]["majority"]
        assert (measured["label"], measured["counted_on"]) == ("left", "measured rows")
        assert measured["accuracy"] == pytest.approx(list(others["label"]).count("left") / len(others))


def test_the_report_says_what_it_was_made_of(one_table):
    _, _, report = one_table
    assert report["kind"] == "units"


LONG_TEXT, LONG_UTTERANCE = 30, 55


@pytest.fixture(scope="module")
def table_of_texts(tmp_path_factory):
    """A table without parts; some texts are too long to be taught, some utterances leave no room for an answer."""
    folder = tmp_path_factory.mktemp("table_of_texts")
    rows = spoken(80, 0, "abcdefgh")

    def lengthened(row, number):
        if number % 5 == 0:
            return {"label": " ".join(["rare"] * LONG_TEXT)}
        return {"units": [1, 2] * (LONG_UTTERANCE // 2)} if number % 7 == 0 else {}

    table = folder / "data.parquet"
    rows.map(lengthened, with_indices=True).rename_columns({"label": "text"}).to_parquet(str(table))
    tiny_lm(std=0.15, max_position_embeddings=60).save_pretrained(folder / "base")
    task = SequenceTask("words", tokens="words", metrics=("wer",), max_tokens=10)
    settings = SequenceTrainingSettings(num_epochs=1, num_virtual_tokens=2, batch_size=8)
    made = run_sequence_experiment(
        table, folder / "adapter", task=task, base=folder / "base", settings=settings, progress=False
    )
    return table, folder / "adapter", made.report


def test_the_limits_are_those_of_the_saved_model(table_of_texts):
    _, adapter, report = table_of_texts
    model = SpeechPromptForSequenceGeneration.from_pretrained(adapter)
    room = 60 - (model.config.max_output_tokens - 1)
    split = report["data"]["split"]
    assert (split["max_text_tokens"], split["max_utterance_tokens"]) == (10, room)
    # Half more than three words and the end. The long texts are not taught, and their words never said.
    assert model.config.max_output_tokens == 6
    words = set(model.output_tokenizer.get_vocab())
    assert {"left", "right", "stop"} <= words and "rare" not in words


@pytest.mark.parametrize("part", ["test", "validation", "train"])
def test_parts_are_found_again_when_rows_were_too_long(table_of_texts, part):
    table, adapter, report = table_of_texts
    assert {skip["error"] for skip in report["skips"]} == {"LabelError", "UnitError"}
    measured = evaluate_sequences(adapter, table, split=part, progress=False)
    assert f"only its {part} part" in " ".join(measured["warnings"])
    assert measured["num_rows"] == {part: report["num_rows"][part]}
    assert any("own training" in warning for warning in measured["warnings"]) or part == "test"
    assert part != "test" or measured["scores"] == report["scores"]
