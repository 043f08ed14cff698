import pandas
import pytest

from speechprompt_hf.core.errors import ConfigurationError, LabelError
from speechprompt_hf.tasks import Task, intent_classification, keyword_spotting, task_by_name, task_from_labels

KEYWORDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "_unknown_", "_silence_"]


def test_keyword_labels_have_the_published_order():
    assert list(keyword_spotting.labels) == KEYWORDS
    assert keyword_spotting.index_of("go") == 9
    assert keyword_spotting.num_label_positions == 1


def test_intents_are_31_combinations_of_24_label_tokens():
    sequences = intent_classification.label_sequences
    assert len(sequences) == len(set(sequences)) == intent_classification.num_labels == 31
    assert {token for sequence in sequences for token in sequence} == set(range(24))
    assert intent_classification.num_label_positions == 3
    assert intent_classification.label_of({"action_id": 0, "object_id": 6, "location_id": 20}) == "0 6 20"


def test_presets_equal_the_published_training_rows(shared_data):
    intents = pandas.read_parquet(shared_data / "units/fluent_speech_commands/hubert100/train.parquet")
    columns = list(intent_classification.label_columns)
    assert {tuple(map(int, row)) for row in intents[columns].to_numpy()} == set(intent_classification.label_sequences)
    keywords = pandas.read_parquet(shared_data / "units/speech_commands_v1/hubert100/test.parquet")
    pairs = set(zip(keywords["label_id"], keywords["label"], strict=True))
    assert {(index, label) for index, label in keyword_spotting.id2label.items()} == pairs


def test_task_from_labels_sorts_numbers_by_value_and_text_by_letter():
    assert task_from_labels([10, 9, 2, 2]).labels == ("2", "9", "10")
    assert task_from_labels(["b", "a", "b"]).label2id == {"a": 0, "b": 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"labels": ("only",)}, "1 label"),
        ({"labels": ("a", "b", "a")}, "twice"),
        ({"labels": ("a", "b"), "label_sequences": ((0,),)}, "1 label sequences"),
        ({"labels": ("a", "b"), "label_sequences": ((0, 1), (0,))}, "lengths"),
        ({"labels": ("a", "b"), "label_sequences": ((0, 1), (0, 1))}, "same label sequence"),
        ({"labels": ("a", "b"), "metric": "beauty"}, "beauty"),
    ],
)
def test_contradictory_tasks_are_refused(arguments, words):
    with pytest.raises(LabelError, match=words):
        Task(name="wrong", **arguments)


def test_unknown_names_are_errors_that_list_the_known_ones():
    with pytest.raises(LabelError, match=r"'maybe'.*yes"):
        keyword_spotting.index_of("maybe")
    with pytest.raises(ConfigurationError, match="keyword_spotting"):
        task_by_name("speaker_identification")
    assert task_by_name("keyword_spotting") is keyword_spotting
