"""Grammars against brute force, and what `generate` says under them."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessorList

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.decoding import (
    GrammarConstraint,
    TokenGrammar,
    generate_hypotheses,
    grammar_of_parts,
    grammar_of_sequences,
    grammar_of_slots,
)
from tests.fixtures.tiny_sequence_model import tiny_sequence_model, utterances

TOKENS = st.integers(4, 8)
SEQUENCES = st.lists(st.lists(TOKENS, max_size=4), min_size=1, max_size=6)


def all_sequences(tokens, longest):
    return itertools.chain.from_iterable(itertools.product(tokens, repeat=length) for length in range(longest + 1))


@given(SEQUENCES)
@settings(deadline=None, max_examples=50)
def test_a_grammar_of_sequences_accepts_these_and_nothing_else(sequences):
    grammar = grammar_of_sequences(sequences)
    wanted = {tuple(sequence) for sequence in sequences}
    assert {one for one in all_sequences(range(4, 9), 4) if grammar.accepts(one)} == wanted
    assert grammar.distances[0] == min(map(len, wanted)) + 1


def test_parts_come_in_their_order():
    grammar = grammar_of_parts([[4, 5], [6], [7, 8]])
    accepted = {one for one in all_sequences(range(4, 9), 4) if grammar.accepts(one)}
    assert accepted == set(itertools.product([4, 5], [6], [7, 8]))


def is_slot_text(tokens, slots, values, in_order):
    """The same said by hand: open, values, close, again."""
    last, rest = -1, list(tokens)
    while rest:
        found = [index for index, (opening, _) in enumerate(slots) if rest[0] == opening]
        if not found or (in_order and found[0] <= last):
            return False
        last, rest = found[0], rest[1:]
        length = next((place for place, token in enumerate(rest) if token not in values), None)
        if not length or rest[length] != slots[last][1]:
            return False
        rest = rest[length + 1 :]
    return True


@pytest.mark.parametrize("in_order", [True, False])
def test_slots_open_hold_something_and_close(in_order):
    slots, values = [(4, 5), (6, 7)], {8}
    grammar = grammar_of_slots(slots, values, in_order=in_order)
    for tokens in all_sequences(range(4, 9), 6):
        assert grammar.accepts(tokens) == is_slot_text(tokens, slots, values, in_order), tokens


@pytest.mark.parametrize("transitions, accepting, message", [
    ([{4: 1}, {}], frozenset(), "from state 0 no sequence can end"),
    ([{4: 1, 5: 2}, {}, {}], frozenset([1]), "from state 2 no sequence can end"),
    ([{2: 0}], frozenset([0]), "leads by token 2"),
    ([{4: 3}], frozenset([0]), "to state 3 of 1"),
])  # fmt: skip
def test_automata_that_lead_nowhere_are_refused(transitions, accepting, message):
    with pytest.raises(ConfigurationError, match=message):
        TokenGrammar(transitions, accepting)


@pytest.mark.parametrize("slots, values, message", [
    ([(4, 5)], [5], "token 5 has two meanings"),
    ([(4, 5), (4, 6)], [7], "token 4 has two meanings"),
    ([], [7], "0 slots, 1 value tokens"),
    ([(4, 5)], [], "1 slots, 0 value tokens"),
])  # fmt: skip
def test_slots_without_tokens_of_their_own_are_refused(slots, values, message):
    with pytest.raises(ConfigurationError, match=message):
        grammar_of_slots(slots, values)


@given(SEQUENCES, st.lists(TOKENS, max_size=5), st.integers(1, 6))
@settings(deadline=None, max_examples=100)
def test_the_constraint_leaves_what_can_still_end_in_time(sequences, said, max_tokens):
    grammar = grammar_of_sequences(sequences)
    if min(map(len, sequences)) + 1 > max_tokens:
        with pytest.raises(ConfigurationError, match="max_tokens"):
            GrammarConstraint(grammar, 9, max_tokens)
        return
    scores = GrammarConstraint(grammar, 9, max_tokens)(torch.tensor([[0, *said]]), torch.zeros(1, 9))[0]
    wanted = set()
    for sequence in sequences:
        whole = [*sequence, 2]
        if len(whole) <= max_tokens and whole[: len(said)] == said and len(whole) > len(said):
            wanted.add(whole[len(said)])
    assert set(torch.isfinite(scores).nonzero().flatten().tolist()) == wanted


def test_a_grammar_of_another_vocabulary_is_refused():
    with pytest.raises(ConfigurationError, match="knows token 9, the output vocabulary has 8"):
        GrammarConstraint(grammar_of_sequences([[9]]), 8)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True}])
def test_generated_sequences_are_allowed_and_whole(options):
    model = tiny_sequence_model(["a b c d e"])
    size = model.config.output_vocab_size
    grammar = grammar_of_slots([(4, 5), (6, 7)], [8])
    inputs = utterances(6)
    torch.manual_seed(0)
    constraint = LogitsProcessorList([GrammarConstraint(grammar, size, 9)])
    for row in model.generate(**inputs, max_new_tokens=9, logits_processor=constraint, **options):
        said = [token for token in row.tolist() if token > 3]
        assert grammar.accepts(said)
        assert 2 in row[1:].tolist()


def test_hypotheses_are_the_most_probable_of_all_allowed_sequences():
    """Few sequences, as many beams: the ranking by brute force, with log-probabilities of single passes."""
    model = tiny_sequence_model(["a b c d e"])
    sequences = [[4], [5, 6], [5, 7], [8, 8, 4]]
    inputs = utterances(3)
    found = generate_hypotheses(
        model, num_hypotheses=4, num_beams=8, grammar=grammar_of_sequences(sequences), max_new_tokens=4, **inputs
    )
    for row, hypotheses in enumerate(found):
        assert {hypothesis.tokens for hypothesis in hypotheses} == set(map(tuple, sequences))
        ranks = [one.log_probability / (len(one.tokens) + 1) for one in hypotheses]
        assert ranks == sorted(ranks, reverse=True)
        for one in hypotheses:
            labels = torch.tensor([[*one.tokens, 2]])
            with torch.no_grad():
                loss = model(
                    input_ids=inputs["input_ids"][row : row + 1],
                    attention_mask=inputs["attention_mask"][row : row + 1],
                    labels=labels,
                ).loss
            np.testing.assert_allclose(one.log_probability, -float(loss) * labels.shape[1], rtol=1e-4)
            assert one.is_whole
            assert one.text == model.output_tokenizer.decode(list(one.tokens))


def test_one_hypothesis_is_the_greedy_one_with_its_log_probability():
    model = tiny_sequence_model(["a b c d e"])
    inputs = utterances(4)
    greedy = model.generate(**inputs, max_new_tokens=6)
    for row, (one,) in enumerate(generate_hypotheses(model, max_new_tokens=6, **inputs)):
        said = [token for token in greedy[row, 1:].tolist() if token != 1]
        assert list(one.tokens) == [token for token in said if token > 3]
        assert one.is_whole == (2 in said)
        with torch.no_grad():
            loss = model(
                input_ids=inputs["input_ids"][row : row + 1],
                attention_mask=inputs["attention_mask"][row : row + 1],
                labels=torch.tensor([said]),
            ).loss
        np.testing.assert_allclose(one.log_probability, -float(loss) * len(said), rtol=1e-4)


def test_fewer_beams_than_hypotheses_are_refused():
    with pytest.raises(ConfigurationError, match="3 hypotheses from 2 beams"):
        generate_hypotheses(None, num_hypotheses=3, num_beams=2)


def test_fewer_hypotheses_where_the_grammar_allows_fewer():
    model = tiny_sequence_model(["a b c d e"])
    grammar = grammar_of_sequences([[4], [5, 6]])
    options = {"num_hypotheses": 5, "num_beams": 8, "max_new_tokens": 4}
    found = generate_hypotheses(model, grammar=grammar, **options, **utterances(3))
    assert [{one.tokens for one in row} for row in found] == [{(4,), (5, 6)}] * 3
    assert all(len(row) == 2 for row in found)


def test_a_text_is_no_sequence_of_tokens():
    with pytest.raises(ConfigurationError, match=r"'low up' is a text, not output tokens.*output_tokenizer"):
        grammar_of_sequences(["low up"])


def test_whole_hypotheses_come_before_those_that_were_cut_off():
    model = tiny_sequence_model(["a b c d e"])
    kinds = set()
    for length in (1, 2, 3, 6):
        for penalty in (-1.0, 3.0):
            found = generate_hypotheses(
                model, num_hypotheses=5, length_penalty=penalty, max_new_tokens=length, **utterances(3)
            )
            for row in found:
                whole = [one.is_whole for one in row]
                assert whole == sorted(whole, reverse=True)
                kinds.add((whole[0], whole[-1]))
    assert (True, False) in kinds
