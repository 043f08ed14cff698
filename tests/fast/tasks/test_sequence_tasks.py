import json

import pytest

from speechprompt_hf.core.errors import ConfigurationError, LabelError
from speechprompt_hf.tasks import (
    METRIC_DIRECTIONS,
    SEQUENCE_TASKS,
    SequenceTask,
    normalize_text,
    phone_recognition,
    read_slots,
    sequence_task_by_name,
    slot_filling,
    slot_tags,
    slots_to_text,
    speech_recognition,
    text_to_slots,
)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("none", "  As  it\tis. ", "As it is."),
        ("lower", "Don't STOP, 'now' — it\u2019s 5 o'clock!", "don't stop now it's 5 o'clock"),
        ("lower", "Où est l'Œuvre?", "où est l'œuvre"),
        ("phones", "W IY0 | K AO1 L | AE2", "W IY K AO L AE"),
        ("phones", "a1 5 10", "a 5 10"),
    ],
)
def test_normalisations(name, text, expected):
    assert normalize_text(text, name) == expected
    assert normalize_text(expected, name) == expected


def test_an_unknown_normalisation_is_named():
    with pytest.raises(ConfigurationError, match=r"normalization is 'upper' \(one of none, lower, phones"):
        normalize_text("a", "upper")


def test_slots_as_people_read_them():
    slots = {"coffeeDrink": "house coffee", "size": None, "roast": " dark  roast"}
    text = slots_to_text(slots)
    assert text == "[coffeeDrink] house coffee [/coffeeDrink] [roast] dark roast [/roast]"
    assert text_to_slots(text) == (("coffeeDrink", "house coffee"), ("roast", "dark roast"))
    assert slot_tags(["size"]) == ("[size]", "[/size]")
    assert slots_to_text({}) == slots_to_text({"size": None}) == "" and text_to_slots("") == ()


@pytest.mark.parametrize(
    ("said", "slots"),
    [
        ("uh [a] x y", ()),
        ("[a] x [/b]", ()),
        ("[a] x [/a] noise [b]y[/b]", (("a", "x"), ("b", "y"))),
        ("[a] x [b] y [/a]", (("a", "x y"),)),
        ("[a] [/a]", ()),
        ("[a] one [/a][a] two [/a]", (("a", "one"), ("a", "two"))),
    ],
)
def test_only_closed_slots_with_a_value_count(said, slots):
    assert text_to_slots(said) == slots


@pytest.mark.parametrize("name", ["", "a b", "[a]", "/a", "a]"])
def test_impossible_names_of_slots(name):
    with pytest.raises(LabelError, match="a slot is called"):
        slots_to_text({name: "x"})


def test_values_have_no_brackets():
    with pytest.raises(LabelError, match=r"the value 'x \[y\]' of slot 'a' has a bracket"):
        slots_to_text({"a": "x [y]"})


def test_one_column_of_slots_is_json_a_mapping_or_tagged_text():
    expected = (("a", "x"), ("b", "y z"))
    assert read_slots('{"a": "x", "c": null, "b": "y z"}') == expected
    assert read_slots({"a": "x", "b": "y z", "c": ""}) == expected
    assert read_slots("[a] x [/a] [b] y z [/b]") == expected
    assert read_slots(None) == read_slots("") == ()
    for wrong in ("just words", "[1, 2]", 5):
        with pytest.raises(LabelError, match="holds no slots"):
            read_slots(wrong)


def test_texts_of_rows():
    assert speech_recognition.text_of({"text": "Hello, World!"}) == "hello world"
    assert speech_recognition.text_of({"text": None}) is None
    assert speech_recognition.text_of({"text": " ... "}) is None
    assert phone_recognition.text_of({"phones": "K AO0 | L"}) == "K AO L"
    assert slot_filling.text_of({"slots_json": '{"size": "LARGE!", "roast": null}'}) == "[size] large [/size]"
    columns = SequenceTask("orders", text_columns=("size", "roast"), metrics=("slot_f1",), has_slots=True)
    assert columns.text_of({"size": None, "roast": "dark"}) == "[roast] dark [/roast]"
    assert columns.text_of({"size": None, "roast": None}) == ""


def test_presets():
    assert sequence_task_by_name("speech_recognition") is speech_recognition
    assert {name: task.metric for name, task in SEQUENCE_TASKS.items()} == {
        "speech_recognition": "wer",
        "phone_recognition": "per",
        "slot_filling": "slot_f1",
        "speech_translation": "bleu",
    }
    assert [task.lower_is_better for task in SEQUENCE_TASKS.values()] == [True, True, False, False]
    with pytest.raises(ConfigurationError, match="no ready-made task of sequences 'dictation'"):
        sequence_task_by_name("dictation")


@pytest.mark.parametrize("task", SEQUENCE_TASKS.values(), ids=lambda task: task.name)
def test_a_record_gives_the_same_task(task):
    assert SequenceTask.from_record(json.loads(json.dumps(task.as_record()))) == task


def test_a_damaged_record_is_told():
    for record in ({}, {**speech_recognition.as_record(), "tokens": "letters"}, {"name": "x", "max_tokens": "y"}):
        with pytest.raises(ConfigurationError, match="there is no task of sequences in"):
            SequenceTask.from_record(record)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tokens": "letters"}, "tokens is 'letters'"),
        ({"normalization": "upper"}, "normalization is 'upper'"),
        ({"metrics": ("accuracy",)}, "has the metric 'accuracy'"),
        ({"metrics": ()}, "has no metric"),
        ({"text_columns": ()}, "no text column"),
        ({"text_columns": ("a", "b")}, "has 2 text columns: a, b"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"metrics": ("slot_f1",)}, "and no slots"),
    ],
)
def test_impossible_tasks_are_refused(options, words):
    with pytest.raises(ConfigurationError, match=words):
        SequenceTask("x", **options)


def test_every_metric_has_a_direction():
    from speechprompt_hf.evaluation import SEQUENCE_METRICS

    assert SEQUENCE_METRICS.keys() == METRIC_DIRECTIONS.keys()


def test_what_was_said_is_normalised_between_tags():
    assert slot_filling.normalize_said("[Size] A  B! [/Size][/Roast] x' [a]") == "[Size] a b [/Size] [/Roast] x [a]"
    assert slot_filling.normalize_said("") == "" and slot_filling.normalize_said("A-b") == "a b"
    assert speech_recognition.normalize_said("[Size] A") == "size a"
