"""Metrics against slow ones written from their definitions."""

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from speechprompt_hf.evaluation import sequence_score
from speechprompt_hf.tasks import slots_to_text

WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", "ab"]), max_size=6).map(" ".join)
PAIRS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6)
SLOTS = st.lists(st.tuples(st.sampled_from("xyz"), WORDS.filter(bool)), max_size=4)
SLOT_PAIRS = st.lists(st.tuples(SLOTS, SLOTS), min_size=1, max_size=5)


def distance(left, right):
    """Levenshtein's, row by row."""
    row = list(range(len(right) + 1))
    for number, token in enumerate(left, start=1):
        before, row[0] = row[0], number
        for column, other in enumerate(right, start=1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (token != other))
    return row[-1]


@given(PAIRS)
def test_error_rates_are_distances_over_lengths(pairs):
    references, said = map(list, zip(*pairs, strict=True))
    for metric, cut in (("wer", str.split), ("per", str.split), ("cer", list)):
        errors = sum(distance(cut(reference), cut(text)) for reference, text in pairs)
        length = sum(len(cut(reference)) for reference in references)
        assert sequence_score(metric, references, said) == pytest.approx(errors / max(length, 1))


@given(PAIRS.filter(lambda pairs: all(reference for reference, _ in pairs)))
def test_error_rates_are_those_of_jiwer(pairs):
    references, said = map(list, zip(*pairs, strict=True))
    assert sequence_score("wer", references, said) == pytest.approx(jiwer.wer(references, said))
    assert sequence_score("cer", references, said) == pytest.approx(jiwer.cer(references, said))


@settings(max_examples=50)
@given(PAIRS)
def test_bleu_and_chrf_are_those_of_sacrebleu(pairs):
    references, said = map(list, zip(*pairs, strict=True))
    assert sequence_score("bleu", references, said) == pytest.approx(
        BLEU(force=True).corpus_score(said, [references]).score
    )
    assert sequence_score("chrf", references, said) == pytest.approx(CHRF().corpus_score(said, [references]).score)


@given(SLOT_PAIRS)
def test_slot_scores_are_superbs(pairs):
    f1s, errors, length = [], 0, 0
    for wanted, found in pairs:
        names, said = {name for name, _ in wanted}, {name for name, _ in found}
        if not names and not said:
            f1s.append(1.0)
        else:
            recall = sum(name in said for name in names) / len(names) if names else 0.0
            precision = sum(name in names for name in said) / len(said) if said else 0.0
            f1s.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
        for name, value in wanted:
            candidates = [other for slot, other in found if slot == name] or [""]
            errors += min(distance(value, other) for other in candidates)
            length += len(value)
    references, said = ([slots_to_text(slots) for slots in side] for side in zip(*pairs, strict=True))
    assert sequence_score("slot_f1", references, said) == pytest.approx(sum(f1s) / len(f1s))
    assert sequence_score("slot_value_cer", references, said) == pytest.approx(errors / max(length, 1))
