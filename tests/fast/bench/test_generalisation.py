"""A candidate chosen on some data sets by validation accuracy, and what is said of it on the others."""

import json
from dataclasses import replace

import numpy as np
import pytest

from speechprompt_hf.bench import choose, run_suite, summarize
from speechprompt_hf.bench.datasets import DatasetSpec, Protocol, Synthetic
from speechprompt_hf.bench.methods import READY_METHODS, Method
from speechprompt_hf.bench.page import markdown, report_page
from speechprompt_hf.bench.results import summary_of, write_results
from speechprompt_hf.bench.runner import SuiteRun
from speechprompt_hf.bench.suite import Suite
from speechprompt_hf.core.errors import ConfigurationError
from tests.fixtures.bench_cells import cell
from tests.fixtures.tiny_models import PEFT_WARNING

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)
NAMES = ("words", "orders", "emotion", "speaker")


def suite(**options):
    specs = tuple(DatasetSpec(name, synthetic=Synthetic()) for name in NAMES)
    methods = (Method("majority", "majority"), Method("tfidf", "tfidf"))
    methods += tuple(Method(name, "prompt") for name in ("one", "two", "three"))
    options = {"baseline": "tfidf", "selection": "best", "choose_on": ("words", "orders"), "seeds": (0, 1), **options}
    return Suite("choice", specs, methods, **options)


def half(share):
    """The first rows of every ten are right."""
    return [row % 10 < 10 * share for row in range(50)]


# Data set → method → validation and test accuracy. Tests say the opposite of validation: two would be chosen by them.
TRUTH = {
    "words": {"tfidf": (1.0, 0.7), "one": (0.8, 0.5), "two": (0.7, 0.9), "three": (0.6, 0.6)},
    "orders": {"tfidf": (1.0, 0.7), "one": (0.6, 0.5), "two": (0.5, 0.9), "three": (0.7, 0.6)},
    "emotion": {"tfidf": (0.1, 0.4), "one": (0.5, 0.6), "two": (0.6, 0.3), "three": (0.9, 0.8)},
    "speaker": {"tfidf": (0.1, 0.9), "one": (0.9, 0.7), "two": (0.8, 1.0), "three": (0.1, 0.2)},
}


def cells(truth=TRUTH):
    return [
        cell(
            method, half(test), dataset=dataset, seed=seed, validation_accuracy=validation + (0.02 if seed else -0.02)
        )
        for dataset, methods in truth.items()
        for method, (validation, test) in methods.items()
        for seed in (0, 1)
    ]


def made(truth=TRUTH, **options):
    declared, found = suite(**options), cells(truth)
    return choose(declared, found, summarize(declared, found))


def test_validation_alone_chooses_and_the_baseline_is_no_candidate():
    choice = made()
    assert suite().candidates == ("one", "two", "three")
    expected = {name: np.mean([TRUTH[dataset][name][0] for dataset in ("words", "orders")]) for name in TRUTH["words"]}
    del expected["tfidf"]
    assert choice.validation == pytest.approx(expected) == {"one": 0.7, "two": 0.6, "three": 0.65}
    assert choice.chosen == "one" and choice.chosen_on == ("words", "orders")
    assert choice.lacking == choice.not_compared == ()


def test_what_the_choice_is_worth_elsewhere():
    emotion, speaker = made().held_out
    assert (emotion.dataset, speaker.dataset) == ("emotion", "speaker")
    assert emotion.accuracy == pytest.approx(0.6) and emotion.interval[0] < 0.6 < emotion.interval[1]
    assert (emotion.baseline, emotion.difference) == ("tfidf", pytest.approx(0.2))
    # Validation says three, though its test is not what decides.
    assert (emotion.own_best, emotion.own_accuracy) == ("three", pytest.approx(0.8))
    assert emotion.own_difference == pytest.approx(-0.2)
    assert emotion.own_interval[0] <= -0.2 <= emotion.own_interval[1] <= 0
    assert (speaker.own_best, speaker.own_difference, speaker.own_interval) == ("one", 0.0, (0.0, 0.0))
    assert speaker.difference == pytest.approx(-0.2)


def test_test_rows_have_no_say():
    changed = {
        dataset: {name: (validation, 1 - test) for name, (validation, test) in methods.items()}
        for dataset, methods in TRUTH.items()
    }
    before, after = made(), made(changed)
    assert (after.chosen, after.validation) == (before.chosen, before.validation)
    assert [each.own_best for each in after.held_out] == [each.own_best for each in before.held_out]


def test_of_equals_the_first_is_chosen():
    equal = {"one": (0.5, 0.1), "two": (0.5, 0.9), "three": (0.4, 0.9)}
    assert made({"words": equal, "orders": equal, "emotion": equal}).chosen == "one"
    # A tie elsewhere is no loss.
    tied = {"one": (0.6, 0.1), "two": (0.6, 0.9), "three": (0.6, 0.9)}
    choice = made({**TRUTH, "emotion": tied, "speaker": {"one": (0.5, 0.1), "two": (0.6, 0.1), "three": (0.6, 0.9)}})
    assert [each.own_best for each in choice.held_out] == ["one", "two"]


def test_what_has_not_run():
    lacks = {name: methods for name, methods in TRUTH.items() if name not in ("orders", "speaker")}
    choice = made(lacks)
    assert (choice.chosen, choice.chosen_on, choice.lacking) == ("one", ("words",), ("orders",))
    assert [each.dataset for each in choice.held_out] == ["emotion"]
    # One that has run on a part of them does not compete: its mean would be another.
    part = {**TRUTH, "orders": {name: value for name, value in TRUTH["orders"].items() if name != "one"}}
    choice = made(part)
    assert (choice.chosen, choice.not_compared) == ("three", ("one",))
    assert made({name: TRUTH[name] for name in ("emotion", "speaker")}) is None
    assert made({name: {"tfidf": TRUTH[name]["tfidf"]} for name in NAMES}) is None
    assert made({"words": TRUTH["words"]}).held_out == ()
    assert made(choose_on=()) is None


def test_other_rows_make_no_pair():
    found = cells()
    for each in found:
        if (each["dataset"], each["method"]) in {("emotion", "three"), ("emotion", "tfidf")}:
            each["predictions"]["item"] = [f"other {each['method']} {row}" for row in range(50)]
            each["rows"] = f"others of {each['method']}"
    emotion = choose(suite(), found, summarize(suite(), found)).held_out[0]
    assert emotion.own_best == "three" and emotion.own_difference is emotion.own_interval is None
    assert emotion.baseline is emotion.difference is None


def test_the_results_have_a_section(tmp_path):
    write_results(SuiteRun(suite(), cells=cells()), tmp_path, "speechprompt bench choice")
    table = (tmp_path / "choice" / "table.md").read_text()
    section = table.split("## Chosen on some data sets, reported on the others")[1].split("## How")[0]
    assert (
        "Chosen: one, by validation accuracy, mean over words, orders: one 0.7000, two 0.6000, three 0.6500."
        in section
    )
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert rows[0] == "| data set | one | 95 % | baseline | difference | own best | its accuracy | difference |"
    assert rows[2].startswith("| emotion | 0.6000 | ") and "| tfidf | +0.2000 (" in rows[2]
    assert "| three | 0.8000 | -0.2000 (" in rows[2] and rows[3].endswith("| one | 0.7000 |  |")
    page = (tmp_path / "choice" / "report.html").read_text()
    assert "<h2>Chosen on some data sets, reported on the others</h2>" in page and "<td>three</td>" in page
    choice = json.loads((tmp_path / "choice" / "summary.json").read_text())["choice"]
    assert choice["chosen"] == "one" and choice["held_out"][0]["own_best"] == "three"


def text_of(found):
    lines = summarize(suite(), found)
    return markdown(SuiteRun(suite(), cells=found), lines, "x", choose(suite(), found, lines))


def test_the_section_says_what_has_not_run():
    text = text_of(cells({name: TRUTH[name] for name in ("words", "emotion")}))
    assert "These had no say, since they have not run in whole: orders." in text and "candidates have not" not in text
    text = text_of([each for each in cells() if (each["dataset"], each["method"]) != ("words", "two")])
    assert "These candidates have not run on all of them: two." in text and "no say" not in text
    assert "On the test rows" not in text_of(cells({"words": TRUTH["words"]}))


def test_without_a_choice_there_is_no_section():
    run = SuiteRun(suite(choose_on=()), cells=cells())
    lines = summarize(run.suite, run.cells)
    assert "Chosen" not in markdown(run, lines, "x") + report_page(run, lines, {}, "x")
    assert summary_of(run, "x")["choice"] is None


def test_a_suite_that_chooses_runs(words, tiny_base, tmp_path):
    other = replace(words, name="other", synthetic=Synthetic(rows=48, seed=3))
    held_out = Protocol("held-out", values=(("speaker 0", "speaker 1"),))
    deep = READY_METHODS["deep-learnable"]
    methods = (
        Method("tfidf", "tfidf"),
        replace(deep, name="upper", settings={**deep.settings, "prompt_layers": "upper"}),
        replace(deep, name="classes", settings={**deep.settings, "prompt_init": "class_means"}),
    )
    declared = Suite(
        "choice",
        tuple(replace(spec, protocol=held_out) for spec in (words, other)),
        methods,
        seeds=(0,),
        baseline="tfidf",
        selection="best",
        settings={"num_epochs": 1, "num_virtual_tokens": 2},
        choose_on=("words",),
    )
    run = run_suite(declared, work=tmp_path / "work", bases=[tiny_base])
    assert not run.failed, run.failed
    choice = choose(declared, run.cells, summarize(declared, run.cells))
    assert choice.chosen in ("upper", "classes") and [each.dataset for each in choice.held_out] == ["other"]
    by_method = {each["method"]: each for each in run.cells}
    # Half of two layers.
    assert by_method["classes"]["trained_parameters"] - by_method["upper"]["trained_parameters"] == 2 * 2 * 32


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"choose_on": ("songs",)}, "choose_on names 'songs', which is none of the data sets"),
        ({"choose_on": ("words", "words")}, "choose_on names 'words' twice"),
        ({"choose_on": NAMES}, "choose_on names all data sets"),
        ({"selection": "last"}, "choose_on needs validation rows"),
        ({"shots": (1, 5)}, "choose_on needs validation rows of whole training parts"),
        ({"baseline": "one", "methods": suite().methods[:4]}, r"choose_on has 1 candidate\(s\): two"),
        ({"methods": suite().methods[:2]}, r"choose_on has 0 candidate\(s\): none"),
    ],
    ids=lambda given: ",".join(given),
)
def test_choices_that_cannot_be_made(options, words):
    with pytest.raises(ConfigurationError, match=words):
        replace(suite(), **options)
