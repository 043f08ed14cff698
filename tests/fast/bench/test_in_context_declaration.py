"""Suites of kind in-context as YAML: what is read, what is refused and where."""

import pytest

from speechprompt_hf.bench.in_context.suite import InContextSuite
from speechprompt_hf.bench.suite import read_suite
from speechprompt_hf.core.errors import ConfigurationError

GOOD = """
kind: in-context
title: told
datasets:
  - lt-words
  - {name: short, like: emodb-emotion, seconds: 1.0}
  - ks-hubert100
tasks:
  - {name: words, warm_up: [lt-words], test: [lt-words], test_classes: 8}
  - {name: feelings, warm_up: [lt-words], test: [short]}
methods:
  - {name: nearest, kind: nearest}
  - {name: deep, kind: prompt, settings: {updates: 5}}
baseline: nearest
settings: {updates: 7, batch_size: 3}
seeds: [4, 5]
"""


def read(folder, text):
    path = folder / "mine.yaml"
    path.write_text(text)
    return read_suite(str(path))


def test_a_declaration_is_read(tmp_path):
    suite = read(tmp_path, GOOD)
    assert isinstance(suite, InContextSuite) and suite.name == "mine" and suite.title == "told"
    assert [spec.name for spec in suite.specs_of(suite.tasks[1])] == ["lt-words", "short"]
    assert suite.datasets[1].seconds == 1.0 and suite.datasets[1].folder == "emodb"
    settings = suite.settings_of(suite.methods[1])
    assert (settings.updates, settings.batch_size, settings.ask) == (5, 3, "repeats")
    assert [suite.baseline_of(method) for method in suite.methods] == [None, "nearest"]
    assert (suite.ways, suite.shots) == ((2, 4), (1, 4))


def test_the_ready_suite_compares_what_it_promises():
    suite = read_suite("in-context")
    kinds = {method.name: (method.kind, suite.settings_of(method).updates > 0) for method in suite.methods}
    assert kinds["nearest"][0] == "nearest" and suite.baseline == "nearest"
    assert kinds["deep"] == ("prompt", True) and kinds["deep-untrained"] == ("prompt", False)
    assert set(suite.ways) == {2, 4} and set(suite.shots) == {1, 4} and len(suite.seeds) >= 3
    within = {task.name: task.test_classes for task in suite.tasks if task.warm_up == task.test}
    assert within == {"lt-words": 8, "fsdd-digits": 4}


def test_only_and_seeds(tmp_path):
    suite = read(tmp_path, GOOD)
    words, feelings = suite.tasks
    names = [method.name for method in suite.methods]
    assert [method.name for method in suite.methods_of(words, ["words"])] == names
    assert suite.methods_of(feelings, ["words", "*/deep"]) == (suite.methods[1],)
    assert suite.selected(num_seeds=1).seeds == (4,) and suite.selected(num_seeds=4).seeds == (4, 5, 6, 7)
    assert suite.selected(["words/near*"]) == suite
    with pytest.raises(ConfigurationError, match=r"'lt-words' in only .* names nothing of the suite mine"):
        suite.selected(["lt-words"])
    with pytest.raises(ConfigurationError, match="0 seeds"):
        suite.selected(num_seeds=0)


def changed(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (changed("kind: in-context", "kind: in-contex"), "mine.yaml has the unknown key"),
        (GOOD + "lr: 1\n", "mine.yaml has the unknown key 'lr'"),
        (GOOD + "ways: [1, 2]\n", "mine.yaml: ways has 1 "),
        (GOOD + "shots: [0]\n", "mine.yaml: shots has 0 "),
        (GOOD + "ways: []\n", "ways is empty"),
        (GOOD + "ways: [2, 2]\n", "the number of ways 2 is named twice"),
        (GOOD + "check_episodes: 0\n", "mine.yaml: check_episodes is 0 "),
        (changed("seeds: [4, 5]", "seeds: [-1]"), "mine.yaml: seeds has -1 "),
        (changed("seeds: [4, 5]", "name: ../up"), "the suite is called '../up'"),
        (GOOD + "episodes: 10\n", "check_episodes is 100, episodes is 10"),
        (GOOD + "max_units: 0\n", "max_units is 0"),
        (GOOD + "label_tokens: words\n", "mine.yaml: label_tokens is 'words'"),
        (changed("baseline: nearest", "baseline: near"), "the baseline 'near' is none of the methods"),
        (changed("  - lt-words", "  - lt-word"), "mine.yaml: datasets[0]: there is no data set 'lt-word'"),
        (changed("test: [short]", "test: [long]"), "the task 'feelings' names 'long'"),
        (changed("test: [short]", "test: [ks-hubert100]"), "mixes units of the bases default, hubert100"),
        (changed("test: [short]", "test: []"), "tasks[1]: test of 'feelings' is []"),
        (changed("warm_up: [lt-words], test: [short]", "test: [short]"), "tasks[1] lacks 'warm_up'"),
        (changed("test_classes: 8", "test_speakers: 1.5"), "tasks[0]: test_speakers is 1.5"),
        (changed("name: feelings", "name: words"), "the task 'words' is named twice"),
        (changed("name: feelings", "name: a/b"), "a task is called 'a/b'"),
        (changed("name: feelings", "name: .."), "a task is called '..'"),
        (changed("name: feelings", "name: .hidden"), "a task is called '.hidden'"),
        (changed("name: deep", "name: '*'"), "methods[1]: a method is called '*'"),
        (changed("kind: nearest}", "kind: tfidf}"), "methods[0]: kind is 'tfidf'"),
        (changed("kind: nearest}", "kind: nearest, settings: {updates: 1}}"), "the method 'nearest' has settings"),
        (changed("settings: {updates: 5}", "settings: {update: 5}"), "settings of 'deep' has the unknown key"),
        (changed("settings: {updates: 5}", "settings: {updates: -1}"), "updates is -1"),
        (changed("settings: {updates: 5}", "settings: {prompt_dropout: 1.0}"), "prompt_dropout is 1.0"),
        (changed("settings: {updates: 7,", "settings: {learning_rate: 0.0,"), "learning_rate is 0.0"),
    ],
)
def test_a_wrong_declaration_names_its_place(tmp_path, text, words):
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value), str(caught.value)
    assert "mine.yaml" in str(caught.value)
