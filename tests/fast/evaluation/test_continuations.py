"""Metrics of continuations against slow, independent ones, and by what must hold of them."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from speechprompt_hf.core.errors import ConfigurationError, UnitError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.evaluation import asr_bleu, auto_bleu, diversity, self_bleu, unit_perplexity
from tests.fixtures.sequence_models import tiny_base
from tests.fixtures.tiny_models import tiny_lm


def slow_auto_bleu(words, order_max):
    """Every n-gram is looked for in what is left of the text on either side of it."""
    shares = []
    for order in range(1, order_max + 1):
        hits = total = 0
        for place in range(len(words) - order + 1):
            gram = words[place : place + order]
            rest = [words[:place], words[place + order :]]
            total += 1
            hits += any(
                side[start : start + order] == gram for side in rest for start in range(len(side) - order + 1)
            )
        if not total or len(words) < 2:
            return 0.0
        shares.append(hits / total)
    return 100 * math.prod(shares) ** (1 / order_max)


def slow_self_bleu(texts, order_max):
    """Modified precisions by counting, clipped by the most that any other text has."""
    values = []
    for number, text in enumerate(texts):
        others = [other.split() for place, other in enumerate(texts) if place != number]
        product = 1.0
        for order in range(1, order_max + 1):
            found = Counter(tuple(text.split()[p : p + order]) for p in range(len(text.split()) - order + 1))
            clipped = 0
            for gram, count in found.items():
                most = max(
                    sum(tuple(other[p : p + order]) == gram for p in range(len(other) - order + 1)) for other in others
                )
                clipped += min(count, most)
            product *= clipped / max(1, sum(found.values()))
        values.append(100 * product ** (1 / order_max))
    return values


def texts(number, seed, vocabulary=6, longest=14):
    generator = np.random.default_rng(seed)
    return [
        " ".join(map(str, generator.integers(0, vocabulary, generator.integers(0, longest)))) for _ in range(number)
    ]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_against_slow_loops(order):
    for seed in range(5):
        rows = texts(12, seed)
        assert [auto_bleu(row, max_order=order) for row in rows] == pytest.approx(
            [slow_auto_bleu(row.split(), order) for row in rows]
        )
        assert self_bleu(rows, max_order=order) == pytest.approx(slow_self_bleu(rows, order))


def test_what_must_hold():
    assert auto_bleu("a b a b a b") == 100.0
    assert auto_bleu("a b c d") == auto_bleu("a") == auto_bleu("") == 0.0
    # "a a" in "a a a" overlaps wherever it occurs again.
    assert auto_bleu("a a a") == 0.0 and auto_bleu("a a a", max_order=1) == 100.0
    assert self_bleu(["1 2 3", "1 2 3"]) == pytest.approx([100.0, 100.0])
    assert self_bleu(["1 2 3", "4 5 6"]) == [0.0, 0.0]
    # Shorter than the others is no mistake here.
    assert self_bleu(["1 2", "1 2 3 4 5 6"])[0] == pytest.approx(100.0)
    found = diversity(texts(10, 1))
    assert found.vert == pytest.approx((found.auto_bleu * found.self_bleu) ** 0.5) and 0 < found.vert < 100
    for call in (lambda: diversity(["a b"]), lambda: self_bleu([])):
        with pytest.raises(ConfigurationError, match=r"self-BLEU of \d text"):
            call()
    for call in (lambda: auto_bleu("a", max_order=0), lambda: self_bleu(["a", "b"], max_order=0)):
        with pytest.raises(ConfigurationError, match="max_order is 0"):
            call()


def test_bleu_of_transcripts():
    assert asr_bleu(["Guten Morgen, liebe Leute!"], ["guten morgen liebe leute"]) == pytest.approx(100.0)
    assert asr_bleu(["something else entirely here"], ["guten morgen liebe leute"]) < 20
    with pytest.raises(ConfigurationError, match="1 references and 2 texts"):
        asr_bleu(["a", "b"], ["a"])


def test_perplexity_is_that_of_one_unit_after_another():
    lm, generator = tiny_lm(seed=2), np.random.default_rng(0)
    order = UnitVocabulary(tuple(str(unit) for unit in range(25, -1, -1)))
    rows = [(np.cumsum(generator.integers(1, 26, length)) % 26).tolist() for length in (5, 1, 9)]
    prompts = [[rows[0][0] ^ 1], [], [(rows[2][0] + 1) % 26, (rows[2][0] + 2) % 26][::-1]]
    prompts[2] = [(rows[2][0] + 2) % 26, (rows[2][0] + 1) % 26]
    found = unit_perplexity(lm, rows, prompts, vocabulary=order, batch_size=2)
    logarithms = []
    for prompt, row in zip(prompts, rows, strict=True):
        said = [2, *order.encode(prompt)]
        for unit in row:
            with torch.no_grad():
                scores = lm(input_ids=torch.tensor([said])).logits[0, -1].log_softmax(-1)
            (token,) = order.encode([unit])
            logarithms.append(float(scores[token]))
            said.append(token)
    assert found.num_units == 15
    assert found.value == pytest.approx(math.exp(-sum(logarithms) / 15), rel=1e-4)
    assert found.rows[1] == pytest.approx(math.exp(-logarithms[5]), rel=1e-4)
    total = sum(math.log(value) * len(row) for value, row in zip(found.rows, rows, strict=True))
    assert math.exp(total / 15) == pytest.approx(found.value)


def test_perplexity_of_what_cannot_be_measured(tmp_path):
    lm = tiny_lm()
    for rows, prompts, error, match in (
        ([], None, ConfigurationError, "0 rows of units"),
        ([[1]], [[2], [3]], ConfigurationError, "1 rows of units came with 2 prompts"),
        ([[1], []], None, UnitError, "row 1 has no units"),
        ([[1, 1]], None, UnitError, "row 0 has equal neighbours"),
        ([[1]], [[1]], UnitError, "row 0 has equal neighbours"),
        ([[99]], None, UnitError, "unit 99 is not among"),
        ([list(range(26)) * 4], None, UnitError, "row 0 has 104 units, more than the"),
    ):
        with pytest.raises(error, match=match):
            unit_perplexity(lm, rows, prompts)
    with pytest.raises(ConfigurationError, match="reads both ways"):
        unit_perplexity(tiny_base("mbart", tmp_path)[0], [[1]])


@pytest.mark.parametrize("kind", ["qwen2", "opt"])
def test_perplexity_by_wrapped_models(kind, tmp_path):
    lm, _ = tiny_base(kind, tmp_path)
    row = [3, 7, 1, 9]
    found = unit_perplexity(lm, [row, [5, 2]])
    alone = unit_perplexity(lm, [row])
    assert found.rows[0] == pytest.approx(alone.value, rel=1e-4) and alone.value > 1


def test_a_start_that_was_never_trained_counts_for_nothing(tmp_path):
    lm, _ = tiny_base("qwen2", tmp_path / "qwen2")
    found = unit_perplexity(lm, [[3, 7, 1, 9], [5, 2]], [[], [4]])
    assert found.num_units == 5
    assert found.rows[0] == pytest.approx(unit_perplexity(lm, [[7, 1, 9]], [[3]]).value, rel=1e-4)
    with torch.no_grad():
        embedding = lm.get_input_embeddings().weight
        lm.lm_head.weight = torch.nn.Parameter(embedding.clone())
        embedding[2] *= -1
    assert unit_perplexity(lm, [[3, 7, 1, 9], [5, 2]], [[], [4]]).value == pytest.approx(found.value, rel=1e-4)
    with pytest.raises(UnitError, match="row 1 has one unit, which a language model without a start token"):
        unit_perplexity(lm, [[3, 7], [5]])
    with_start, _ = tiny_base("opt", tmp_path / "opt")
    assert unit_perplexity(with_start, [[3, 7, 1, 9], [5]]).num_units == 5
