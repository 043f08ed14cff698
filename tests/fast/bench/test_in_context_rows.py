"""What in-context suites say and refuse of their rows: unknown speakers, shared rows, impossible episodes, names."""

from dataclasses import replace

import pytest
from datasets import Dataset

from speechprompt_hf.bench import jobs
from speechprompt_hf.bench.in_context import parts
from speechprompt_hf.bench.in_context.declaration import InContextMethod, InContextTask
from speechprompt_hf.bench.in_context.report import in_context_summary, write_in_context_results
from speechprompt_hf.bench.in_context.runner import run_in_context
from speechprompt_hf.bench.in_context.summary import summarize_in_context
from tests.fixtures.bench_cells import NEAREST, PROMPT
from tests.fixtures.tiny_models import tiny_lm


@pytest.fixture
def across(told_suite):
    """Warm-up on five words, asked for two of another data set."""
    return replace(told_suite, tasks=told_suite.tasks[1:], methods=(NEAREST,), seeds=(0,))


@pytest.fixture
def changed_rows(monkeypatch):
    """Lets data sets be opened with rows that a function changes, which gets name, number and row."""

    def change(function):
        open_dataset = jobs.open_dataset

        def opened(spec, *arguments, **options):
            data = open_dataset(spec, *arguments, **options)
            rows = [function(spec.name, number, row) for number, row in enumerate(data.rows)]
            return replace(data, rows=Dataset.from_list(rows, features=data.rows.features))

        monkeypatch.setattr(jobs, "open_dataset", opened)

    return change


def table(run, folder):
    write_in_context_results(run, folder, "c")
    return (folder / "told" / "table.md").read_text()


def test_unknown_speakers_are_no_speakers(across, changed_rows, tmp_path):
    changed_rows(lambda name, number, row: {**row, "speaker": None} if name == "other" else row)
    run = run_in_context(across, work=tmp_path)
    (part,) = run.parts
    assert part["rows"]["test"]["other"] == {
        "classes": ["label 0", "label 1"],
        "num_speakers": 0,
        "num_rows": 60,
        "num_without_speaker": 60,
    }
    assert {name for each in part["measured"] if each["side"] == "test" for name in each["speaker"]} == {None}
    assert {line.over for line in summarize_in_context(across, run.parts)} == {"recordings"}
    text = table(run, tmp_path)
    assert "Test: other, 2 classes, speakers unknown, 60 rows." in text
    assert "Warm-up: words, 5 classes, 10 speakers, 120 rows." in text
    assert "Speakers who are unknown may be on both sides" in text


def test_some_unknown_speakers_are_told_apart_from_the_known(told_suite, changed_rows, tmp_path):
    suite = replace(
        told_suite, tasks=(InContextTask("back", ("other",), ("words",)),), methods=(NEAREST,), seeds=(0,), episodes=60
    )
    changed_rows(lambda name, number, row: {**row, "speaker": None} if row["speaker"] == "speaker 9" else row)
    run = run_in_context(suite, work=tmp_path)
    assert {line.over for line in summarize_in_context(suite, run.parts)} == {"speakers"}
    assert "9 speakers (10 rows with speakers unknown)" in table(run, tmp_path)


def test_rows_on_both_sides_are_refused(told_suite, changed_rows, tmp_path):
    changed_rows(lambda name, number, row: row if number else {**row, "units": [1, 2, 3], "label": "label 1"})
    suite = replace(told_suite, methods=(NEAREST,), seeds=(0,))
    run = run_in_context(suite, work=tmp_path)
    assert [part["task"] for part in run.parts] == ["within"]
    (failure,) = run.failed
    assert failure.cell == "across"
    assert failure.error == (
        "DatasetError: 1 row(s) of other, which is asked, are also in words, which warms up: equal units, "
        "label 'label 1'"
    )


def test_equal_units_of_another_label_are_no_shared_row(across, changed_rows, tmp_path):
    labels = {"words": "label 0", "other": "label 1"}
    changed_rows(lambda name, number, row: row if number else {**row, "units": [1, 2, 3], "label": labels[name]})
    assert not run_in_context(across, work=tmp_path).failed


def test_classes_and_speakers_of_the_same_name_are_noted(across, told_suite, tmp_path):
    run = run_in_context(across, work=tmp_path)
    notes = (
        "other and words have 2 class(es) of the same name: label 0, label 1",
        "other and words have 4 speaker(s) of the same name: speaker 0, speaker 1, speaker 2, speaker 3",
    )
    assert run.notes == {"across": notes}
    assert "\n".join(f"- {note}" for note in notes) in table(run, tmp_path)
    assert in_context_summary(run, "c")["notes"] == {"across": list(notes)}
    within = replace(told_suite, tasks=told_suite.tasks[:1], methods=(NEAREST,), seeds=(0,))
    assert run_in_context(within, work=tmp_path).notes == {"within": ()}


@pytest.fixture
def no_warm_up(monkeypatch):
    """Warm-up would be an error of its own."""

    def fail(*arguments, **options):
        raise AssertionError("it was warmed up")

    monkeypatch.setattr(parts, "warm_up", fail)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (InContextTask("t", ("words",), ("other",)), "test other: no speaker can be asked: 2 of 2 classes"),
        (InContextTask("t", ("other",), ("words",)), "warm_up other: no speaker can be asked: 2 of 2 classes"),
    ],
)
def test_impossible_episodes_end_before_warm_up(told_suite, long_base, no_warm_up, tmp_path, task, words):
    suite = replace(told_suite, tasks=(task,), ways=(2, 3), methods=(NEAREST, PROMPT), seeds=(0,))
    run = run_in_context(suite, work=tmp_path, bases=[long_base])
    assert [failure.error.startswith(f"DatasetError: {words}") for failure in run.failed] == [True, True], run.failed


@pytest.mark.parametrize("kind", ["prompt", "finetune"])
def test_too_long_episodes_end_before_warm_up(across, no_warm_up, tmp_path, kind):
    tiny_lm(max_position_embeddings=40).save_pretrained(tmp_path / "short")
    suite = replace(across, methods=(InContextMethod("m", kind, PROMPT.settings),), baseline=None, max_units=8)
    run = run_in_context(suite, work=tmp_path / "w", bases=[str(tmp_path / "short")])
    (failure,) = run.failed
    # Four examples of eight units with separator and label, the question with its separator, and the first token.
    assert failure.error == "ConfigurationError: test other: an episode has 50 tokens, the base reads 40"


def test_surprise_is_measured_at_utterances_that_fit_twice(across, changed_rows, monkeypatch, tmp_path):
    tiny_lm(max_position_embeddings=36).save_pretrained(tmp_path / "short")
    first_unit, heard = {"words": 0, "other": 10}, []
    surprise_when_repeated = parts.surprise_when_repeated

    def measure(lm, rows):
        heard.extend(rows)
        return surprise_when_repeated(lm, rows)

    def rows_with_a_long_one(name, number, row):
        length = 18 if (name, number) == ("other", 0) else 3
        return {**row, "units": [first_unit[name] + number % 10] * length}

    changed_rows(rows_with_a_long_one)
    monkeypatch.setattr(parts, "surprise_when_repeated", measure)
    suite = replace(across, methods=(PROMPT,), baseline=None, shots=(1,))
    run = run_in_context(suite, work=tmp_path / "w", bases=[str(tmp_path / "short")])
    # An episode with the long one and two others has 30 tokens; twice the long one would have 37.
    assert not run.failed and [len(row) for row in heard] == [3] * 59


def test_a_division_that_cannot_be_names_the_data_set(told_suite, tmp_path):
    task = InContextTask("t", ("other",), ("other",), test_classes=2)
    run = run_in_context(replace(told_suite, tasks=(task,), methods=(NEAREST,), seeds=(0,)), work=tmp_path)
    assert run.failed[0].error == "DatasetError: other: 2 of 2 classes are to be held out"


def test_names_of_data_sets_count_and_those_of_tasks_and_methods_do_not(across, tmp_path):
    first = run_in_context(across, work=tmp_path / "w")
    assert first.num_computed == 1
    named = replace(across, methods=(replace(NEAREST, name="near"),), baseline="near", name="again")
    again = run_in_context(named, work=tmp_path / "w")
    assert again.num_computed == 0 and [part["method"] for part in again.parts] == ["near"]
    words, other = across.datasets
    renamed = replace(
        across,
        datasets=(words, replace(other, name="renamed")),
        tasks=(replace(across.tasks[0], test=("renamed",)),),
    )
    run = run_in_context(renamed, work=tmp_path / "w")
    assert run.num_computed == 1 and not run.failed
    assert [each["correct"] for each in run.parts[0]["measured"]] == [
        each["correct"] for each in first.parts[0]["measured"]
    ]
    assert "### renamed, 2-way, 1-shot" in table(run, tmp_path)
    # And back: what was computed under the first name is still known.
    assert run_in_context(across, work=tmp_path / "w").num_computed == 0
