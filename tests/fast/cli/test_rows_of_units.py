"""An adapter on a base without a processor: trained, measured and used on rows of units from the command line."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from speechprompt_cli.main import main
from speechprompt_hf.core.vocabulary import UnitVocabulary
from tests.fixtures.tiny_models import PEFT_WARNING, tiny_lm

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)

NUM_ROWS = 60


def rows_of_units():
    generator = random.Random(0)
    rows = []
    for number in range(NUM_ROWS):
        label = "stop" if number % 4 == 0 else "go"
        first = 0 if label == "stop" else 10
        units = [generator.randrange(first, first + 10) for _ in range(generator.randint(5, 15))]
        rows.append({"units": units, "label": label, "item": f"take {number}"})
    for number in (3, 6):
        rows[number]["units"] = [0, 1] * 100
    return rows


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("units")
    tiny_lm(std=0.15, vocab_size=24).save_pretrained(folder / "base")
    (folder / "base" / "dict.txt").write_text(UnitVocabulary.from_num_units(20).to_dict_txt())
    pq.write_table(pa.Table.from_pylist(rows_of_units()), folder / "rows.parquet")
    return folder


@pytest.fixture(scope="module")
def trained(work):
    """The adapter, and what train printed."""
    import contextlib
    import io

    command = ["train", "--dataset", work / "rows.parquet", "--output", work / "adapter", "--base", work / "base"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main([*map(str, command), "--epochs", "1"]) == 0
    return work / "adapter", printed.getvalue()


def test_train_speaks_of_rows_of_units(trained):
    adapter, printed = trained
    assert "; 10 rows of units)" in printed
    assert "on the same rows of units" in printed and "recordings" not in printed
    assert "most frequent label in training (go)" in printed
    assert f"note: 2 rows of units could not be used; {adapter / 'report.json'} lists them" in printed
    assert "  2 UnitError, first take " in printed and "200 units, more than the 38 that the base reads" in printed
    # Such an adapter hears nothing.
    assert f"next: speechprompt predict {adapter} UNITS.parquet" in printed
    assert json.loads((adapter / "report.json").read_text())["kind"] == "units"


def test_evaluate_says_why_rows_were_left_out(speechprompt, trained, work, tmp_path):
    adapter, _ = trained
    table = tmp_path / "others.parquet"
    pq.write_table(pa.Table.from_pylist(rows_of_units()[1:20]), table)
    answer = speechprompt("evaluate", adapter, "--dataset", table)
    assert answer.code == 0, answer.err
    assert "17 rows of units)" in answer.out and "most frequent label in training (go)" in answer.out
    assert "note: 2 rows of units could not be used; --output FILE lists them" in answer.out
    assert "  2 UnitError, first take 3: 200 units" in answer.out
    answer = speechprompt("evaluate", adapter, "--dataset", table, "--output", tmp_path / "report.json")
    assert f"{tmp_path / 'report.json'} lists them" in answer.out
    assert [skip["item"] for skip in json.loads((tmp_path / "report.json").read_text())["skips"]] == [
        "take 3",
        "take 6",
    ]


def test_evaluate_counts_the_reasons_of_recordings(speechprompt, adapter_folder, recordings):
    answer = speechprompt("evaluate", adapter_folder, "--dataset", recordings, "--part", "train")
    assert answer.code == 0 and "recordings" in answer.out and "rows of units" not in answer.out


def test_predict_prints_a_line_a_row(speechprompt, trained, work, tmp_path):
    adapter, _ = trained
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"units": [1, 2, 3]}\n{"units": []}\n{"units": "1 2 25"}\n{"units": "11 12"}\n')
    answer = speechprompt("predict", adapter, work / "rows.parquet", lines)
    assert answer.code == 2
    printed = [line.split("\t") for line in answer.out.splitlines()]
    assert [row[0] for row in printed[:3]] == ["take 0", "take 1", "take 2"]
    assert [row[0] for row in printed[-2:]] == [f"{lines} row 0", f"{lines} row 3"]
    assert len(printed) == NUM_ROWS - 2 + 2
    assert {row[1] for row in printed} <= {"go", "stop"} and all(0.5 <= float(row[2]) <= 1 for row in printed)
    errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    wrong = ("row 3 of", "row 6 of", f"row 1 of {lines} has no units", "unit 25 is not among the 20 units")
    assert len(errors) == 4 and all(words in error for words, error in zip(wrong, errors, strict=True)), errors
    found = speechprompt("predict", adapter, lines, "--json").json["predictions"]
    assert [sorted(each) for each in found] == [
        ["file", "label", "probability", "row"],
        ["error", "file", "row"],
        ["error", "file", "row"],
        ["file", "label", "probability", "row"],
    ]


def test_a_table_without_units_and_a_recording_without_processor_are_refused(speechprompt, trained, tmp_path):
    adapter, _ = trained
    (tmp_path / "a.csv").write_text("audio,label\nx.wav,go\n")
    answer = speechprompt("predict", adapter, tmp_path / "a.csv")
    assert answer.code == 2 and not answer.out and "has no column 'units'; its columns are audio, label" in answer.err
    answer = speechprompt("predict", adapter, "a.wav")
    assert answer.code == 2 and "no processor" in answer.err and "Rows of units (.parquet" in answer.err


def test_recordings_and_tables_are_answered_in_their_order(speechprompt, adapter_folder, recordings, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"units": [1, 2, 3]}\n')
    files = [recordings / "low" / "0.wav", rows, recordings / "high" / "0.wav"]
    answer = speechprompt("predict", adapter_folder, *files)
    assert answer.code == 0, answer.err
    assert [line.split("\t")[0] for line in answer.out.splitlines()] == [str(files[0]), f"{rows} row 0", str(files[2])]


@pytest.mark.filterwarnings("default:more than half")
def test_most_rows_left_out_are_a_warning_before_training_and_a_note_after_it(speechprompt, work, tmp_path):
    rows = rows_of_units()
    for number, row in enumerate(rows):
        if number % 3:
            row["units"] = [0, 1] * 100
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    command = ["train", "--dataset", tmp_path / "rows.parquet", "--output", tmp_path / "o", "--base", work / "base"]
    answer = speechprompt(*command, "--epochs", 1)
    assert answer.code == 0, answer.err
    sentence = (
        "more than half of the rows, 42 of 60, were left out: what is measured holds for the others alone (first"
    )
    (line,) = [line for line in answer.err.splitlines() if sentence in line]
    assert line.startswith("warning: more") and "UserWarning" not in answer.err
    assert f"note: {sentence} take " in answer.out
