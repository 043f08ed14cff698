"""Suites are read strictly: every mistake is an error that names its place."""

import textwrap
from typing import get_args, get_type_hints

import pytest

from speechprompt_hf.bench.datasets import DatasetSpec, Protocol, ready_datasets
from speechprompt_hf.bench.methods import READY_METHODS
from speechprompt_hf.bench.suite import read_suite, ready_suites
from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.training import TrainingSettings

GOOD = """
datasets:
  - lt-words
  - {name: mine, folder: my_set, label: [a, b], seconds: 2, protocol: {kind: grouped, folds: 3}}
  - {name: short, like: emodb-emotion, seconds: 1.0}
methods:
  - tfidf
  - {name: long, like: deep-learnable, settings: {num_virtual_tokens: 50}}
  - {name: own, kind: finetune, settings: {finetune_learning_rate: 1.0e-3}}
baseline: tfidf
seeds: [3, 4]
settings: {num_epochs: 2}
"""


def read(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return read_suite(str(path))


def changed(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


def test_a_suite_of_ready_changed_and_own_parts(tmp_path):
    suite = read(tmp_path, GOOD)
    assert suite.name == "mine" and suite.seeds == (3, 4) and suite.settings == {"num_epochs": 2}
    ready, mine, short = suite.datasets
    assert ready == ready_datasets()["lt-words"]
    assert mine == DatasetSpec(
        "mine", folder="my_set", label=("a", "b"), seconds=2.0, protocol=Protocol("grouped", folds=3)
    )
    assert (short.name, short.seconds, short.label) == ("short", 1.0, ("emotion",))
    tfidf, longer, own = suite.methods
    assert tfidf == READY_METHODS["tfidf"]
    # What is not changed stays.
    assert longer.settings == {**READY_METHODS["deep-learnable"].settings, "num_virtual_tokens": 50}
    assert own.training_settings(suite.settings, 0, 10).num_epochs == 2
    assert own.training_settings(suite.settings, 0, 10).finetune_learning_rate == 1e-3


def test_few_rows_get_more_epochs():
    method = READY_METHODS["deep-learnable"]
    settings = method.training_settings({"num_epochs": 5, "batch_size": 16}, 40, 20)
    assert settings.num_epochs == 20  # two updates an epoch
    assert method.training_settings({"num_epochs": 5, "batch_size": 16}, 40, 1600).num_epochs == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- lt-words", "no valid suite"),
        (changed("seeds: [3, 4]", "seed: [3]"), "mine.yaml has the unknown key 'seed'"),
        (changed("methods:", "methodes:"), "'methodes'"),
        (changed("datasets:", "name: x\nname: y\ndatasets:"), "'name' is written twice"),
        (changed("seeds: [3, 4]", "seeds: 3"), "mine.yaml: seeds is 3"),
        (changed("seeds: [3, 4]", "seeds: [3, x]"), "mine.yaml: seeds[1] is 'x'"),
        (changed("seeds: [3, 4]", "seeds: [true]"), "mine.yaml: seeds[0] is True"),
        (changed("seeds: [3, 4]", "seeds: [3, 3]"), "the seed 3 is named twice"),
        (changed("seeds: [3, 4]", "seeds: []"), "seeds is empty"),
        (changed("seeds: [3, 4]", "seeds: [-1]"), "mine.yaml: seeds has -1"),
        (changed("seeds: [3, 4]", "shots: [0]"), "mine.yaml: shots has 0"),
        (changed("seeds: [3, 4]", "min_updates: -2"), "mine.yaml: min_updates is -2"),
        (changed("seeds: [3, 4]", "selection: first"), "selection is 'first'"),
        (changed("seeds: [3, 4]", "choose_on: lt-words"), "mine.yaml: choose_on is 'lt-words'"),
        (changed("seeds: [3, 4]", "choose_on: [songs]"), "mine.yaml: choose_on names 'songs'"),
        (changed("num_virtual_tokens: 50", "prompt_layers: middle"), "prompt_layers is 'middle'"),
        (changed("num_virtual_tokens: 50", "prompt: input, prompt_layers: upper"), "prompt_layers is 'upper'"),
        (changed("num_virtual_tokens: 50", "prompt_init: ones"), "prompt_init is 'ones'"),
        (changed("seeds: [3, 4]", "name: a b"), "the suite is called 'a b'"),
        (changed("- lt-words", "- lt-worte"), "datasets[0]: there is no data set 'lt-worte'"),
        (changed("- lt-words", "- 7"), "datasets[0] is 7"),
        (changed("- lt-words", "- mine"), "there is no data set 'mine'"),
        (changed("name: short", "name: mine"), "the data set 'mine' is named twice"),
        (changed("like: emodb-emotion", "like: emo"), "datasets[2]: like: there is no data set 'emo'"),
        (changed("seconds: 1.0", "second: 1.0"), "datasets[2] has the unknown key 'second'"),
        (changed("seconds: 1.0", "seconds: 0.0"), "seconds is 0.0"),
        (changed("seconds: 1.0", "seconds: long"), "datasets[2]: seconds is 'long'"),
        (changed("folder: my_set, ", ""), "give either folder or synthetic"),
        (changed("name: mine, ", ""), "datasets[1] lacks 'name'"),
        (changed("name: mine", "name: a/b"), "a data set is called 'a/b'"),
        (changed("name: mine", "name: .."), "a data set is called '..'"),
        (changed("label: [a, b]", "label: a"), "datasets[1]: label is 'a'"),
        (changed("label: [a, b]", "metric: f1"), "datasets[1]: metric is 'f1'"),
        (changed("label: [a, b]", "distinct: [dev]"), "distinct names the part 'dev'"),
        (changed("folder: my_set", "synthetic: {labels: 1}"), "datasets[1]: synthetic: 120 rows of 1 labels"),
        (changed("kind: grouped, folds: 3", "kind: random"), "datasets[1]: protocol: kind is 'random'"),
        (changed("folds: 3", "folds: 1"), "datasets[1]: protocol: folds is 1"),
        (changed("kind: grouped, folds: 3", "kind: column, values: [[a]]"), "'column' needs column"),
        (changed("kind: grouped, folds: 3", "kind: held-out"), "lacks values"),
        (changed("kind: grouped, folds: 3", "train: [dev]"), "there is no part 'dev'"),
        (changed("kind: grouped, folds: 3", "train: [test]"), "both train and test"),
        (changed("- tfidf", "- tf-idf"), "methods[0]: there is no method 'tf-idf'"),
        (changed("name: long", "name: a/b"), "a method is called 'a/b'"),
        (changed("name: long", "name: tfidf"), "the method 'tfidf' is named twice"),
        (changed("kind: finetune", "kind: magic"), "methods[2]: kind is 'magic'"),
        (changed("kind: finetune", "kind: tfidf"), "the method 'own' has settings"),
        (changed("num_virtual_tokens: 50", "tokens: 50"), "settings of 'long' has the unknown key 'tokens'"),
        (changed("num_virtual_tokens: 50", "num_virtual_tokens: many"), "num_virtual_tokens is 'many'"),
        (changed("num_virtual_tokens: 50", "schedule: up"), "schedule is 'up'"),
        (changed("num_virtual_tokens: 50", "batch_size: 0"), "batch_size is 0"),
        (changed("like: deep-learnable,", "like: deep-learnable, model: {x: 1},"), "model of 'long' has the unknown"),
        (
            changed("like: deep-learnable,", "like: deep-learnable, model: {separator_init: x},"),
            "separator_init is 'x'",
        ),
        (changed("settings: {num_epochs: 2}", "settings: {num_epochs: 0}"), "num_epochs is 0"),
        (changed("settings: {num_epochs: 2}", "settings: [1]"), "settings is [1]"),
        (changed("baseline: tfidf", "baseline: svm"), "the baseline 'svm' is none of the methods"),
        (changed("- tfidf", "- {name: t, kind: tfidf, untrained: true}"), "the method 't' is untrained"),
        ("datasets: [", "no valid YAML"),
        ("datasets: []\nmethods: [tfidf]\n", "datasets is empty"),
        ("- a\n", "mine.yaml is ['a']"),
    ],
)
def test_a_wrong_declaration_names_its_place(tmp_path, text, words):
    if words == "no valid suite":
        words = "mine.yaml is ['lt-words']"
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value), str(caught.value)
    assert "mine.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"), [("clasification", "there is no suite"), ("absent.yaml", "cannot be read")]
)
def test_an_absent_suite(name, words):
    with pytest.raises(ConfigurationError, match=words):
        read_suite(name)


@pytest.mark.parametrize("name", ready_suites())
def test_ready_suites_can_be_read(name):
    suite = read_suite(name)
    assert suite.name == name and suite.title
    for method in suite.methods:
        assert suite.baseline_of(method) != method.name


def test_the_named_suites_are_there():
    wanted = {"smoke", "classification", "few-shot", "verbalizer-ablation", "prompt-ablation", "generalisation"}
    assert {*wanted, "genuine-units"} <= set(ready_suites())


def test_a_choice_is_declared(tmp_path):
    suite = read(tmp_path, GOOD + "selection: best\nchoose_on: [lt-words, short]\n")
    assert suite.choose_on == ("lt-words", "short") and suite.candidates == ("long", "own")
    ready = read_suite("generalisation")
    folders = {spec.name: spec.folder for spec in ready.datasets}
    held_out = {folder for name, folder in folders.items() if name not in ready.choose_on}
    assert held_out and not held_out & {folders[name] for name in ready.choose_on}
    assert ready.candidates and "tfidf" not in ready.candidates


def test_the_prompt_ablation_has_every_position_and_beginning():
    suite = read_suite("prompt-ablation")
    prompts = [method.settings for method in suite.methods if method.kind == "prompt"]
    hints = get_type_hints(TrainingSettings)
    for name in ("prompt", "prompt_layers", "prompt_init"):
        assert {settings.get(name, getattr(TrainingSettings(), name)) for settings in prompts} == set(
            get_args(hints[name])
        )


def test_emotion_clips_have_one_length_and_repeated_rows_go():
    ready = ready_datasets()
    assert ready["emodb-emotion"].seconds == ready["emodb-gender"].seconds == 2.0
    assert ready["speech-noise"].seconds == 1.0
    assert ready["ks-hubert100"].distinct == ("train", "validation")
    assert ready["esd-speaker"].protocol.group == "sentence_id"


def test_only_picks_data_sets_and_methods():
    suite = read_suite("classification")
    words, digits = suite.datasets[0], suite.datasets[1]

    def names(spec, *only):
        return [method.name for method in suite.methods_of(spec, only)]

    everything = [method.name for method in suite.methods]
    assert names(words) == names(words, "lt-words") == names(words, "*") == everything
    assert names(digits, "lt-words") == []
    assert names(digits, "lt-words", "*/tfidf") == ["tfidf"]
    assert names(words, "lt-words/deep-*") == ["deep-random", "deep-frequency", "deep-learnable", "deep-two-layers"]
    for text in ("lt", "lt-words/svm", "*/svm"):
        with pytest.raises(ConfigurationError, match="names nothing of the suite classification"):
            suite.selected([text])


def test_seeds_are_cut_or_counted_on():
    suite = read_suite("classification")
    assert suite.selected(num_seeds=1).seeds == (0,)
    assert suite.selected(num_seeds=5).seeds == (0, 1, 2, 3, 4)
    with pytest.raises(ConfigurationError, match="0 seeds"):
        suite.selected(num_seeds=0)
