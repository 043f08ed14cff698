import pytest
import torch
from datasets import Dataset

from speechprompt_hf.core.errors import LabelError, UnitError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.data import UnitCollator, labelled_units
from speechprompt_hf.tasks import task_from_labels

VOCABULARY = UnitVocabulary(("3", "1", "2"))


def test_rows_are_padded_on_the_right_in_dictionary_order():
    batch = UnitCollator(VOCABULARY)([{"units": [3, 1], "label": 1}, {"units": [2], "label": 0}])
    assert batch["input_ids"].tolist() == [[2, 4, 5, 0], [2, 6, 0, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch["labels"].tolist() == [1, 0] and batch["labels"].dtype == torch.int64


def test_batches_without_labels_have_none():
    assert set(UnitCollator(VOCABULARY)([{"units": [3]}])) == {"input_ids", "attention_mask"}


def test_long_and_empty_rows_are_errors_not_cut():
    collator = UnitCollator(VOCABULARY, max_positions=4)
    assert collator([{"units": [3, 1]}])["input_ids"].shape == (1, 4)
    with pytest.raises(UnitError, match=r"clip\.wav has 3 units, more than the 2 that the base reads"):
        collator([{"units": [3, 1, 2], "item": "clip.wav"}])
    with pytest.raises(UnitError, match="row 1 of the batch has no units"):
        collator([{"units": [3]}, {"units": []}])
    with pytest.raises(UnitError, match="unit 9"):
        collator([{"units": [9]}])


def test_labelled_units_hold_ids_labels_and_lengths():
    task = task_from_labels(["b", "a"])
    rows = Dataset.from_dict({"units": [[3, 1], [2]], "label": ["b", "a"], "item": ["x", "y"]})
    table = labelled_units(rows, task, VOCABULARY)
    assert table.to_dict() == {"labels": [1, 0], "length": [4, 3], "input_ids": [[2, 4, 5, 0], [2, 6, 0]]}
    assert UnitCollator(VOCABULARY)(list(table))["labels"].tolist() == [1, 0]
    with pytest.raises(LabelError, match="'c'"):
        labelled_units(Dataset.from_dict({"units": [[1]], "label": ["c"]}), task, VOCABULARY)
    with pytest.raises(UnitError, match="y has no units"):
        labelled_units(
            Dataset.from_dict({"units": [[1], []], "label": ["a", "b"], "item": ["x", "y"]}), task, VOCABULARY
        )


@pytest.mark.parametrize("token", [-1, len(VOCABULARY)])
def test_ids_outside_the_vocabulary_are_refused(token):
    with pytest.raises(
        UnitError, match=rf"token id {token} of b is outside the vocabulary of {len(VOCABULARY)} tokens"
    ):
        UnitCollator(VOCABULARY)([{"input_ids": [2, 4, 0], "item": "a"}, {"input_ids": [2, token, 0], "item": "b"}])
