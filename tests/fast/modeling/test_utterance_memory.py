"""What was read lies in memory once, for all the rows that go on from it."""

import pytest
import torch

from speechprompt_hf.modeling.utterance_memory import columns_of_cache
from tests.fixtures.sequence_models import UTTERANCES, make_sequence_model, tiny_base
from tests.fixtures.tiny_models import pad

CASES = [
    ("gslm", "sdpa", "deep"),
    ("gslm", "eager", "input"),
    ("mbart", "sdpa", "deep"),
    ("mbart", "eager", "input"),
    ("qwen2", "eager", "deep"),
    ("qwen2", "sdpa", "input"),
]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def model(request, tmp_path_factory):
    kind, attention, prompt = request.param
    lm, _ = tiny_base(kind, tmp_path_factory.mktemp(kind), attention)
    return make_sequence_model(lm, prompt=prompt)


@pytest.fixture
def memory(model):
    return model.read(*pad(UTTERANCES, "left")).memory


def rows_of(number, times):
    return torch.arange(number).repeat_interleave(times)


def vectors_of(model, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(UTTERANCES), 1, model.lm.config.hidden_size, generator=generator)


def say(model, memory, vectors, depth=1):
    return model.lm.read_labels(
        memory,
        vectors,
        torch.full((len(vectors), 1), depth),
        torch.ones(len(vectors), 1, depth, dtype=torch.bool),
        model._prompt_states(),
    )


@torch.no_grad()
def test_beams_share_what_was_read(model, memory):
    number, vectors = len(UTTERANCES), vectors_of(model, 0)
    one, three = memory.begin(rows_of(number, 1)), memory.begin(rows_of(number, 3))
    assert three.columns is memory.columns and three.visible is memory.visible
    expected = say(model, one, vectors)
    found = say(model, three, vectors.repeat_interleave(3, 0))
    torch.testing.assert_close(found, expected.repeat_interleave(3, 0))
    assert memory.said.get_seq_length() == 0 and three.said.get_seq_length() == 1

    # Beams that change places within their utterance move what they said, and nothing else.
    swapped = three.take_rows(torch.arange(number * 3).view(number, 3).flip(1).flatten(), number * 3)
    assert swapped.columns is memory.columns


@torch.no_grad()
def test_rows_that_leave_their_utterance_take_a_copy_along(model, memory):
    number, first, second = len(UTTERANCES), vectors_of(model, 0), vectors_of(model, 1)
    backwards = torch.arange(number).flip(0)
    stayed, moved = memory.begin(rows_of(number, 1)), memory.begin(rows_of(number, 1))
    say(model, stayed, first)
    say(model, moved, first)
    moved = moved.take_rows(backwards, number)
    assert moved.columns is not memory.columns
    assert torch.equal(moved.lengths, memory.lengths[backwards])
    expected = say(model, stayed, second, depth=2)
    torch.testing.assert_close(say(model, moved, second[backwards], depth=2), expected[backwards])


@torch.no_grad()
def test_fewer_rows_than_utterances(model, memory):
    vectors = vectors_of(model, 0)
    expected = say(model, memory.begin(rows_of(len(UTTERANCES), 1)), vectors)
    kept = memory.begin(torch.tensor([1]))
    assert len(kept.visible) == 1
    torch.testing.assert_close(say(model, kept, vectors[1:2]), expected[1:2])


@torch.no_grad()
@pytest.mark.parametrize("kind", ["gslm", "mbart"])
def test_nothing_that_was_read_is_copied_when_something_is_said(kind, tmp_path):
    model = make_sequence_model(tiny_base(kind, tmp_path, "sdpa")[0])
    memory = model.read(*pad(UTTERANCES, "left")).memory
    own = memory.begin(rows_of(len(UTTERANCES), 1))
    columns = [*memory.columns]
    if memory.encoder is not None:
        columns += columns_of_cache(memory.encoder.columns)
    places = [tensor.data_ptr() for pair in columns for tensor in pair]
    for depth in (1, 2):
        say(model, own, vectors_of(model, depth), depth)
    columns = [*own.columns]
    if own.encoder is not None:
        columns += columns_of_cache(own.encoder.columns)
    assert [tensor.data_ptr() for pair in columns for tensor in pair] == places
