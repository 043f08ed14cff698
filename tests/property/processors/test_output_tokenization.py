"""Output vocabularies of any texts: whatever is in them comes back, but for blanks, of which several are one."""

from hypothesis import given, settings
from hypothesis import strategies as st

from speechprompt_hf.core.errors import LabelError
from speechprompt_hf.modeling.output_tokenizer import (
    check_output_tokenizer,
    load_output_tokenizer,
    save_output_tokenizer,
)
from speechprompt_hf.processors import build_output_tokenizer

# Surrogates are no text: they cannot be written in UTF-8.
characters = st.characters(exclude_categories=["Cs"])
texts = st.lists(
    st.text(characters, max_size=20) | st.text("ab  <>/s▁\n\t\r\x1c\x1f\x85\u00a0\u2003é e\u0301😀", max_size=12),
    min_size=1,
    max_size=5,
)
kinds = st.sampled_from(["characters", "words", "subwords"])


@settings(max_examples=200, deadline=None)
@given(texts=texts, kind=kinds)
def test_texts_come_back(texts, kind):
    collapsed = [" ".join(text.split()) for text in texts]
    try:
        tokenizer = build_output_tokenizer(texts, kind)
    except LabelError:
        special = ("<s>", "<pad>", "</s>", "<unk>")
        assert not any(collapsed) or any(token in text for text in collapsed for token in special)
        return
    check_output_tokenizer(tokenizer)
    for raw, text in zip(texts, collapsed, strict=True):
        ids = tokenizer(raw).input_ids
        assert tokenizer(text).input_ids == ids
        assert ids[-1] == 2 and 2 not in ids[:-1]
        if kind == "subwords" and "▁" in text:
            continue  # it stands for a blank
        assert 3 not in ids, (text, ids)
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        if kind == "characters":
            assert len(ids) == len(text) + 1


@settings(max_examples=30, deadline=None)
@given(texts=texts, kind=kinds)
def test_a_saved_tokenizer_is_the_same(texts, kind, tmp_path_factory):
    texts = [*texts, "ab"]
    try:
        tokenizer = build_output_tokenizer(texts, kind)
    except LabelError:
        return
    folder = tmp_path_factory.mktemp("saved")
    save_output_tokenizer(tokenizer, folder)
    opened = load_output_tokenizer(str(folder), len(tokenizer), {})
    assert opened.get_vocab() == tokenizer.get_vocab()
    for text in texts:
        assert opened(text).input_ids == tokenizer(text).input_ids
        ids = tokenizer(text).input_ids
        assert opened.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids, skip_special_tokens=True)
