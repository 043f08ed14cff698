"""What the labels of a prompt are called, and which unit or row each of them is."""

import json

import pytest
import torch
from transformers import AutoModel

from speechprompt_hf.convert.errors import ConversionError
from speechprompt_hf.convert.prompt import convert_prompt
from tests.fixtures.official_prompts import prompt_tensors, write_prompt
from tests.fixtures.tiny_models import (
    PEFT_WARNING,
)
from tests.fixtures.toy_prompts import LABELS, SIZES, UNITS, tensors, token

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


def test_v1_s_verbal_json_has_a_task_and_numbers_for_labels(base, tmp_path):
    path = write_prompt(tmp_path / "p.pt", tensors(linear=False, version=1), version=1)
    (tmp_path / "verbal.json").write_text(
        json.dumps({"KS": {"0": "9", "1": "4", "2": "21"}, "IC": {"0": "3", "1": "2"}})
    )
    options = {"verbalizer": tmp_path / "verbal.json", "task": "KS"}
    result = convert_prompt(path, tmp_path / "a", base, labels=["yes", "no", "up"], **options)
    assert result["tokens_of_labels"] == {"yes": token(9), "no": token(4), "up": token(21)}
    result = convert_prompt(path, tmp_path / "b", base, **options)
    assert result["tokens_of_labels"] == {"0": token(9), "1": token(4), "2": token(21)}


def test_v2_s_verbalizer_json_orders_the_rows_of_the_linear_verbalizer(base, tmp_path):
    """The label of rank i is trained as the unit i, so as its token: only with dictionaries in numeric order i + 4."""
    rows = {f"word{rank}": unit for rank, unit in enumerate(str(UNITS[place]) for place in range(5))}
    path = write_prompt(tmp_path / "p.pt", tensors())
    result = convert_prompt(path, tmp_path / "a", base, verbalizer=rows, labels=list(rows)[::-1])
    assert result["tokens_of_labels"] == {f"word{rank}": 4 + rank for rank in (4, 3, 2, 1, 0)}


def test_labels_that_share_a_unit_are_on_record(base, tmp_path):
    path = write_prompt(tmp_path / "p.pt", tensors(linear=False))
    result = convert_prompt(path, tmp_path / "a", base, verbalizer={"yes": "3", "no": "5", "up": "3"})
    assert result["tokens_of_several_labels"] == [token(3)]
    assert AutoModel.from_pretrained(tmp_path / "a").config.verbalizer == "random"


def test_units_may_be_numbers(base, tmp_path):
    path = write_prompt(tmp_path / "p.pt", tensors(linear=False))
    (tmp_path / "verbalizer.json").write_text('{"yes": 3, "no": 5}')
    result = convert_prompt(path, tmp_path / "a", base, verbalizer=tmp_path / "verbalizer.json")
    assert result["tokens_of_labels"] == {"yes": token(3), "no": token(5)}


def test_a_label_that_no_class_has_is_left_out(base, tmp_path):
    path = write_prompt(tmp_path / "p.pt", tensors())
    result = convert_prompt(path, tmp_path / "a", base, labels=LABELS, classes={"a": ["yes"], "b": ["left"]})
    assert {row for row, reason in result["rows_left_out"].items() if "class" in reason} == {"5", "6", "7"}


def test_files_for_labels_and_classes(base, tmp_path):
    path = write_prompt(tmp_path / "p.pt", tensors())
    (tmp_path / "labels.json").write_text(json.dumps(LABELS))
    (tmp_path / "classes.json").write_text(json.dumps({"a": ["yes", "no"], "b": ["no", "no"]}))
    convert_prompt(path, tmp_path / "a", base, labels=tmp_path / "labels.json", classes=str(tmp_path / "classes.json"))
    assert AutoModel.from_pretrained(tmp_path / "a").config.class_names == ["a", "b"]


@pytest.mark.parametrize(
    ("linear", "given", "message"),
    [
        (False, {}, "no verbalizer.json or verbal.json was given"),
        (True, {}, "the linear verbalizer has 5 labels, and nothing says which"),
        (True, {"labels": LABELS[:4]}, "4 labels were given, the linear verbalizer has 5"),
        (True, {"labels": ["a", "b", "c", "d", "a"]}, "labels: 'a' occurs twice"),
        (True, {"labels": "nowhere.json"}, "there is no file nowhere.json for labels"),
        (True, {"labels": {"a": 1}}, "labels: a list of texts is needed, not dict"),
        (True, {"labels": []}, "labels: 0 texts"),
        (True, {"verbalizer": {"yes": str(UNITS[9]), "no": "1"}}, "which is token 13; the linear verbalizer has 9"),
        (False, {"verbalizer": {"yes": "3", "no": "26"}}, "maps 'no' to '26', which is no unit of the base"),
        (False, {"verbalizer": {"yes": "3", "no": "<s>"}}, "maps 'no' to '<s>', which is no unit"),
        (False, {"verbalizer": {"yes": 3, "no": 26}}, "maps 'no' to '26', which is no unit of the base"),
        (False, {"verbalizer": {"yes": "3", "no": 5.0}}, "maps 'no' to a float instead of a unit"),
        (False, {"verbalizer": {"yes": "3", "no": True}}, "maps 'no' to a bool instead of a unit"),
        (False, {"verbalizer": {"yes": "3", "no": ["5"]}}, "maps 'no' to a list instead of a unit"),
        (False, {"verbalizer": {"yes": "3"}}, "1 class(es): yes"),
        (False, {"verbalizer": {}}, "no object of 1 to"),
        (False, {"verbalizer": ["3", "4"]}, "no object of 1 to"),
        (False, {"verbalizer": {"KS": {"0": "1"}, "IC": {"0": "2"}}}, "for several tasks: 'KS', 'IC'"),
        (False, {"verbalizer": {"KS": {"0": "1"}}, "task": "SF"}, "no task 'SF'"),
        (False, {"verbalizer": {"0": "1"}, "task": "KS"}, "task 'KS' was given"),
        (False, {"verbalizer": {"yes": "3", "no": "5"}, "labels": ["yes", "on"]}, "has 2, among them 'no'"),
        (True, {"labels": LABELS, "classes": [["yes"], ["maybe"]]}, "class 'maybe' has the label 'maybe'"),
        (True, {"labels": LABELS, "classes": [["yes", "no"]]}, "1 class(es): yes no"),
        (True, {"labels": LABELS, "classes": {"a": ["yes"], "b": ["yes"]}}, "two classes have the same labels"),
        (True, {"labels": LABELS, "classes": [["yes"], ["yes"]]}, "two classes are called 'yes'"),
        (True, {"labels": LABELS, "classes": [["yes"], []]}, "a class: 0 texts"),
        (True, {"labels": LABELS, "classes": [["yes"], [3]]}, "a class: a list of texts is needed"),
        (True, {"labels": LABELS, "classes": 3}, "classes are a int instead of label sequences"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused(linear, given, message, base, tmp_path):
    path = write_prompt(tmp_path / "p.pt", tensors(linear=linear))
    with pytest.raises(ConversionError) as caught:
        convert_prompt(path, tmp_path / "adapter", base, **given)
    assert message in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["p.pt"]


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\xff"])
def test_files_of_labels_that_are_no_json(text, base, tmp_path):
    (tmp_path / "verbal.json").write_bytes(text.encode("latin1"))
    path = write_prompt(tmp_path / "p.pt", tensors(linear=False))
    with pytest.raises(ConversionError, match=r"verbal\.json is not valid JSON"):
        convert_prompt(path, tmp_path / "adapter", base, verbalizer=tmp_path / "verbal.json")


def test_huge_files_of_labels_are_not_read(base, tmp_path):
    with (tmp_path / "verbal.json").open("wb") as file:
        file.truncate(2**24)
    path = write_prompt(tmp_path / "p.pt", tensors(linear=False))
    with pytest.raises(ConversionError, match="16777216 bytes, more than"):
        convert_prompt(path, tmp_path / "adapter", base, verbalizer=tmp_path / "verbal.json")


def test_rows_beyond_the_vocabulary_cannot_be_fed_back(base, tmp_path):
    """1,251 speakers over 100 units: one label an utterance is well, a second would have no token to follow."""
    names = [f"speaker {number}" for number in range(40)]
    state = prompt_tensors(version=2, kind="input", num_classes=40, **SIZES)
    path = write_prompt(tmp_path / "p.pt", state)
    convert_prompt(path, tmp_path / "a", base, labels=names)
    model = AutoModel.from_pretrained(tmp_path / "a")
    assert torch.equal(model.verbalizer.weight, state["decoder.prompt_linear_verbalizer.weight"][4:])
    classes = [[names[0], names[1]], [names[39], names[1]]]
    with pytest.raises(ConversionError, match="'speaker 39' is row 43 of the linear verbalizer"):
        convert_prompt(path, tmp_path / "b", base, labels=names, classes=classes)
