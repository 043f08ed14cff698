import numpy as np
import pytest
import torch

from speechprompt_hf.core.errors import UnitError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.processors import UnitTokenizer


@pytest.fixture
def tokenizer():
    return UnitTokenizer.from_num_units(100)


def test_an_utterance_starts_with_2_and_ends_with_the_separator_0(tokenizer):
    assert tokenizer("5 6")["input_ids"] == [2, 9, 10, 0]
    assert tokenizer.input_ids([5, 6]) == [2, 9, 10, 0]
    assert tokenizer("5 6", add_special_tokens=False)["input_ids"] == [9, 10]


def test_special_ids_are_the_models(tokenizer):
    ids = (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
    assert ids == (0, 1, 2, 3)
    assert len(tokenizer) == tokenizer.vocab_size == 104
    assert tokenizer.all_special_ids == [0, 2, 3, 1]


def test_batches_are_padded_on_the_right(tokenizer):
    batch = tokenizer(["71 12 56", "4"], padding=True, return_tensors="pt")
    assert batch["input_ids"].tolist() == [[2, 75, 16, 60, 0], [2, 8, 0, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor], ids=["list", "tuple", "array", "tensor"])
def test_integers_are_units_not_token_ids(tokenizer, make):
    assert tokenizer(make([5, 6]))["input_ids"] == tokenizer.encode(make([5, 6])) == [2, 9, 10, 0]
    assert tokenizer(make([[5, 6], [7, 8]]))["input_ids"] == [[2, 9, 10, 0], [2, 11, 12, 0]]


def test_batches_of_integers_are_those_of_text(tokenizer):
    rows = [[71, 12, 56], [4], [], np.array([3, 3])]
    texts = ["71 12 56", "4", "", "3 3"]
    ours, theirs = (tokenizer(batch, padding=True, return_tensors="pt") for batch in (rows, texts))
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert torch.equal(ours["attention_mask"], theirs["attention_mask"])
    assert tokenizer([5, 6], [7])["input_ids"] == tokenizer("5 6", "7")["input_ids"]
    assert tokenizer([[5, 6]], [[7]])["input_ids"] == tokenizer(["5 6"], ["7"])["input_ids"]
    assert tokenizer([([5, 6], [7])])["input_ids"] == [[2, 9, 10, 0, 11]]
    assert tokenizer([5, 6], is_split_into_words=True)["input_ids"] == [2, 9, 10, 0]
    assert tokenizer([[5, 6], [7]], is_split_into_words=True)["input_ids"] == [[2, 9, 10, 0], [2, 11, 0]]


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ([100], "unit '100' is not among"),
        ([[3], [-1]], "unit '-1' is not among"),
        ([[3.5]], "'3.5' among integers is no unit"),
        ([[3, 4.0]], "'4.0' among integers"),
        ([3, None], "'None' among integers"),
    ],
)
def test_numbers_that_are_no_units_are_refused(tokenizer, units, message):
    with pytest.raises(UnitError, match=message):
        tokenizer(units)


def test_text_round_trip(tokenizer):
    ids = tokenizer("71 12 56")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "71 12 56"
    assert tokenizer.units_of(ids) == [71, 12, 56]


def test_dictionary_order_decides_not_the_number(tmp_path):
    (tmp_path / "dict.txt").write_text("61 900\n7 800\n0 5\n")
    tokenizer = UnitTokenizer(str(tmp_path / "dict.txt"))
    assert tokenizer("61 7 0", add_special_tokens=False)["input_ids"] == [4, 5, 6]
    tokenizer.save_pretrained(tmp_path / "saved")
    again = UnitTokenizer.from_pretrained(tmp_path / "saved")
    assert again("0 61")["input_ids"] == [2, 6, 4, 0]
    assert again.vocabulary == tokenizer.vocabulary == UnitVocabulary(("61", "7", "0"))
    assert again.get_vocab() == {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "61": 4, "7": 5, "0": 6}


def test_unknown_units_are_an_error_not_unk(tokenizer):
    with pytest.raises(UnitError, match="unit '100' is not among the 100 units"):
        tokenizer("5 100")
    with pytest.raises(UnitError, match="unit 100"):
        tokenizer.input_ids([100])
    with pytest.raises(UnitError, match="token id 104"):
        tokenizer.convert_ids_to_tokens(104)


def test_special_tokens_mask(tokenizer):
    assert tokenizer("5 6", return_special_tokens_mask=True)["special_tokens_mask"] == [1, 0, 0, 1]
    assert tokenizer.get_special_tokens_mask([2, 9, 0], already_has_special_tokens=True) == [1, 0, 1]


def test_a_pair_is_an_utterance_and_its_labels(tokenizer):
    assert tokenizer("5 6", "7")["input_ids"] == [2, 9, 10, 0, 11]


def test_a_tokenizer_needs_a_dictionary():
    with pytest.raises(UnitError, match="needs the dictionary"):
        UnitTokenizer()
