"""Text while it is said equals the text at the end."""

import threading
import time

import pytest
from transformers import StoppingCriteria

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


class Counting(StoppingCriteria):
    """Counts steps, which it makes slow."""

    steps = 0

    def __call__(self, input_ids, scores, **kwargs):
        self.steps += 1
        time.sleep(0.02)
        return input_ids.new_zeros(len(input_ids)).bool()


def test_a_reader_that_leaves_ends_the_work():
    model = tiny_sequence_model(["a b c d e f g"])
    model.generation_config.eos_token_id = None  # it would go on to its longest
    counting = Counting()
    before = threading.active_count()
    pieces = stream_text(model, max_new_tokens=40, stopping_criteria=[counting], **utterances(1))
    next(pieces)
    pieces.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert 0 < counting.steps < 20
