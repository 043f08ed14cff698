"""Text while it is said equals the text at the end."""

import pytest

from speechprompt_hf.decoding import stream_text
from tests.fixtures.tiny_sequence_model import tiny_sequence_model, utterances


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_pieces_are_the_whole_text(kind):
    model = tiny_sequence_model(["a b c d e f g"], kind=kind)
    inputs = utterances(1)
    whole = model.generate(**inputs, max_new_tokens=20)[0]
    text = model.output_tokenizer.decode(whole, skip_special_tokens=True)
    pieces = list(stream_text(model, max_new_tokens=20, **inputs))
    assert "".join(pieces).strip() == text.strip()
    assert len(pieces) > 1
    assert all(pieces)


def test_an_error_of_the_work_is_raised_here():
    model = tiny_sequence_model(["a b"])
    with pytest.raises(ValueError, match="no_such_option"):
        list(stream_text(model, no_such_option=1, **utterances(1)))
