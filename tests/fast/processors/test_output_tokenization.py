"""Tokenizers of output vocabularies: what they hold, what they refuse, how transformers uses them."""

import pytest

from speechprompt_hf.core.errors import ConfigurationError, LabelError
from speechprompt_hf.processors import build_output_tokenizer

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
KINDS = ("characters", "words", "subwords")


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_come_first_and_texts_end(kind):
    tokenizer = build_output_tokenizer(["turn on the light", "turn it off"], kind, num_subwords=40)
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == SPECIAL
    assert (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (
        0,
        1,
        2,
        3,
    )
    ids = tokenizer("turn on it").input_ids
    assert ids[-1] == 2 and min(ids[:-1]) > 3
    assert tokenizer.decode(ids, skip_special_tokens=True) == "turn on it"
    assert tokenizer.decode([0, *ids, 1, 1], skip_special_tokens=True) == "turn on it"
    assert tokenizer("").input_ids == [2]
    assert tokenizer.decode([0, 2, 1], skip_special_tokens=True) == ""
    batch = tokenizer(["on", "turn on it"], padding=True)
    assert len({len(row) for row in batch.input_ids}) == 1 and batch.input_ids[0][-1] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_text_had_is_unknown(kind):
    tokenizer = build_output_tokenizer(["ab ba"], kind, num_subwords=20)
    ids = tokenizer("ab ☃").input_ids
    assert ids.count(3) == 1 and ids[-1] == 2
    assert "☃" not in tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_texts_make_the_same_tokenizer(kind):
    texts = ["turn on the light", "turn it off", "lights"]
    made = [
        build_output_tokenizer(rows, kind, num_subwords=40).backend_tokenizer.to_str() for rows in (texts, iter(texts))
    ]
    assert made[0] == made[1]
    if kind != "subwords":
        again = build_output_tokenizer([*reversed(texts), *texts], kind)
        assert again.backend_tokenizer.to_str() == made[0]


def test_characters_and_words_are_sorted():
    assert build_output_tokenizer(["b a"]).get_vocab() == {
        **{token: index for index, token in enumerate(SPECIAL)},
        " ": 4,
        "a": 5,
        "b": 6,
    }
    words = build_output_tokenizer(["B-room kitchen", "O  B-room"], "words").get_vocab()
    assert sorted(words, key=words.get)[4:] == ["B-room", "O", "kitchen"]


def test_subwords_are_no_more_than_asked_for():
    texts = ["the light the night the fight"] * 3
    small, large = (build_output_tokenizer(texts, "subwords", num_subwords=size) for size in (20, 24))
    assert (len(small), len(large)) == (20, 24)
    assert len(large("the light").input_ids) < len(small("the light").input_ids)
    assert len(build_output_tokenizer(["ab"], "subwords", num_subwords=10**6)) < 12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [[], [""], ["   ", "\n\t"]])
def test_texts_without_anything_are_refused(kind, texts):
    with pytest.raises(LabelError, match="no text has anything in it"):
        build_output_tokenizer(texts, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("token", SPECIAL)
def test_texts_with_special_tokens_are_refused(kind, token):
    with pytest.raises(LabelError, match=f"a text holds '{token}'"):
        build_output_tokenizer(["fine", f"not{token} fine"], kind)


@pytest.mark.parametrize("size", [-5, 0, 4, 7])
def test_too_few_subwords_are_refused(size):
    with pytest.raises(ConfigurationError, match=f"num_subwords is {size}; .* alone are 8"):
        build_output_tokenizer(["abc"], "subwords", num_subwords=size)
    assert len(build_output_tokenizer(["abc"], "subwords", num_subwords=8)) == 8


def test_there_is_no_other_kind():
    with pytest.raises(ConfigurationError, match="kind is 'phones'"):
        build_output_tokenizer(["abc"], "phones")
