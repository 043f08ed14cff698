"""Episodes: nothing but the context tells the labels, and no class or speaker of the test is in warm-up."""

from collections import Counter

import numpy as np
import pytest

from speechprompt_hf.bench.in_context.episodes import Pool, draw_episodes, shuffle_told_labels, split_rows
from speechprompt_hf.bench.in_context.nearest import answer_by_nearest, unit_vectors
from speechprompt_hf.bench.in_context.sequences import batch_episodes, episode_length, lay_out
from speechprompt_hf.core.errors import ConfigurationError, DatasetError

LABELS = [f"word {row % 6}" for row in range(120)]
SPEAKERS = [f"s{row // 6 % 10}" for row in range(120)]
TOKENS = range(4, 24)


@pytest.fixture
def pool():
    """Six words, each said twice by each of ten speakers."""
    return Pool.of(LABELS, SPEAKERS)


@pytest.mark.parametrize("seed", range(5))
def test_no_class_and_no_speaker_is_on_both_sides(pool, seed):
    split = split_rows(pool, test_classes=2, test_speakers=0.3, seed=seed)
    for values in ("rows", "labels", "speakers"):
        assert not set(getattr(split.warm_up, values)) & set(getattr(split.test, values))
    assert len(split.test.classes) == 2 and len(split.warm_up.classes) == 4
    # Twice three speakers times two words; seven speakers times four words.
    assert (len(split.test.rows), len(split.warm_up.rows)) == (12, 56)
    assert split == split_rows(pool, test_classes=2, test_speakers=0.3, seed=seed)
    assert split != split_rows(pool, test_classes=2, test_speakers=0.3, seed=seed + 1)


@pytest.mark.parametrize(("ways", "shots"), [(2, 1), (4, 3), (6, 2)])
def test_an_episode_tells_every_class_and_asks_another_speaker(pool, ways, shots):
    episodes = draw_episodes(pool, ways=ways, shots=shots, number=200, label_tokens=TOKENS, seed=1)
    for each in episodes:
        assert Counter(each.told) == dict.fromkeys(range(ways), shots)
        assert len(set(each.classes)) == len(set(each.label_tokens)) == ways
        assert len(set(each.examples)) == ways * shots and each.query not in each.examples
        assert [LABELS[row] for row in each.examples] == [each.classes[told] for told in each.told]
        assert LABELS[each.query] == each.classes[each.answer]
        assert SPEAKERS[each.query] == each.speaker
        assert each.speaker not in {SPEAKERS[row] for row in each.examples}
    # Neither place nor token tells the class.
    assert abs(np.mean([each.answer for each in episodes]) - (ways - 1) / 2) < 0.45
    assert len({each.label_tokens[each.answer] for each in episodes}) == len(TOKENS)
    assert len({each.told for each in episodes}) > 1


def test_equal_seeds_give_equal_episodes_and_other_tokens_the_same_rows(pool):
    def draw(seed, tokens=TOKENS):
        return draw_episodes(pool, ways=3, shots=2, number=30, label_tokens=tokens, seed=seed)

    assert draw((0, 1)) == draw((0, 1)) != draw((0, 2))
    few = draw((0, 1), range(3))
    assert [(each.examples, each.query) for each in few] == [(each.examples, each.query) for each in draw((0, 1))]


def test_drawn_classes_do_not_tell_the_next_one(pool):
    episodes = draw_episodes(pool, ways=2, shots=4, number=400, label_tokens=TOKENS, seed=0, balanced=False)
    last_of_seven = [each.told[7] for each in episodes if sum(each.told[:7]) == 4]
    # Balanced it would be 0 always.
    assert 0.3 < np.mean(last_of_seven) < 0.7
    assert all(SPEAKERS[row] != each.speaker for each in episodes for row in each.examples)


def test_a_class_with_few_rows_is_told_by_them_again():
    pool = Pool.of(["a", "a", "b", "b"], ["s", "t", "s", "t"])
    for each in draw_episodes(pool, ways=2, shots=3, number=20, label_tokens=TOKENS, seed=0, balanced=False):
        assert len(each.examples) == 6 and each.query not in each.examples


def test_rows_without_a_speaker_are_speakers_of_their_own():
    pool = Pool.of(["a", "a", "b", "b"], [None] * 4, first_row=10)
    assert pool.rows == pool.voices == (10, 11, 12, 13) and pool.speakers == (None,) * 4
    (episode,) = draw_episodes(pool, ways=2, shots=1, number=1, label_tokens=TOKENS, seed=0)
    assert {*episode.examples, episode.query} <= set(pool.rows) and episode.speaker is None
    split = split_rows(Pool.of(LABELS, [None] * 120), test_classes=2, test_speakers=0.5, seed=0)
    assert 0 < len(split.test.rows) < 40 and set(split.test.speakers) == {None}
    assert split == split_rows(Pool.of(LABELS, [None] * 120), test_classes=2, test_speakers=0.5, seed=0)


@pytest.mark.parametrize(("ways", "shots"), [(2, 1), (3, 1), (5, 1), (4, 2)])
def test_every_drawn_episode_has_a_question(pool, ways, shots):
    options = {"ways": ways, "shots": shots, "number": 300, "label_tokens": TOKENS, "seed": 0, "balanced": False}
    assert all(lay_out(each, [[5]] * 120, ask_repeats=True).columns for each in draw_episodes(pool, **options))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ways": 1}, "1 episodes of 1 ways"),
        ({"shots": 0}, "0 shots"),
        ({"number": 0}, "0 episodes"),
        ({"label_tokens": [4]}, "1 label tokens for 2 ways"),
        ({"ways": 7}, "6 of 6 classes have 1 row(s) by others, and 7 are needed"),
        ({"shots": 19}, "0 of 6 classes have 19 row(s) by others"),
    ],
)
def test_impossible_episodes(pool, change, words):
    options = {"ways": 2, "shots": 1, "number": 1, "label_tokens": TOKENS, "seed": 0}
    with pytest.raises((ConfigurationError, DatasetError)) as caught:
        draw_episodes(pool, **{**options, **change})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"test_classes": 1, "test_speakers": 0.5}, "1 of 6 classes are to be held out"),
        ({"test_classes": 5, "test_speakers": 0.5}, "5 of 6 classes are to be held out"),
        ({"test_classes": 2, "test_speakers": 1.0}, "test_speakers is 1.0"),
    ],
)
def test_impossible_divisions(pool, options, words):
    with pytest.raises((ConfigurationError, DatasetError), match=words):
        split_rows(pool, seed=0, **options)
    with pytest.raises(DatasetError, match="there is one speaker: s"):
        split_rows(Pool.of(LABELS, ["s"] * len(LABELS)), test_classes=2, test_speakers=0.5, seed=0)


ROWS = [[5], [6, 6], [7], [8, 9]]


@pytest.fixture
def episode():
    """Rows 0 and 2 tell the class 1, row 1 the class 0; row 3 is asked."""
    pool = Pool.of(["b", "a", "b", "a"], ["s", "s", "s", "t"])
    (drawn,) = draw_episodes(pool, ways=2, shots=1, number=1, label_tokens=[20, 21], seed=0)
    fields = {"examples": (0, 1, 2), "told": (1, 0, 1), "query": 3, "answer": 0, "label_tokens": (20, 21)}
    return type(drawn)(**{**vars(drawn), **fields})


def test_the_sequence_is_examples_with_labels_then_the_question(episode):
    laid_out = lay_out(episode, ROWS)
    assert laid_out.token_ids == (2, 5, 0, 21, 6, 6, 0, 20, 7, 0, 21, 8, 9, 0)
    assert (laid_out.columns, laid_out.answers) == ((13,), (0,)) and episode_length(episode, ROWS) == 14
    repeats = lay_out(episode, ROWS, ask_repeats=True)
    assert repeats.token_ids == laid_out.token_ids
    # The second example of class 1 and the question; first examples tell a class and cannot be asked.
    assert (repeats.columns, repeats.answers) == ((9, 13), (1, 0))


def test_a_question_whose_class_nobody_told_is_not_asked_in_warm_up(episode):
    alone = type(episode)(**{**vars(episode), "told": (1, 1, 1)})
    asked = lay_out(alone, ROWS, ask_repeats=True)
    assert (asked.columns, asked.answers) == ((6, 9), (1, 1))
    assert lay_out(alone, ROWS).answers == (0,)


def test_a_batch_is_padded_and_names_its_questions(episode):
    short = type(episode)(**{**vars(episode), "examples": (0, 1), "told": (1, 0), "label_tokens": (22, 23)})
    batch = batch_episodes([episode, short], ROWS, max_tokens=14, ask_repeats=True)
    assert batch.input_ids.shape == (2, 14) and batch.attention_mask.sum(1).tolist() == [14, 11]
    assert batch.input_ids[1].tolist() == [2, 5, 0, 23, 6, 6, 0, 22, 8, 9, 0, 1, 1, 1]
    assert batch.rows.tolist() == [0, 0, 1] and batch.columns.tolist() == [9, 13, 10]
    assert batch.label_tokens.tolist() == [[20, 21], [20, 21], [22, 23]] and batch.answers.tolist() == [1, 0, 0]
    assert (batch.input_ids[batch.rows, batch.columns] == 0).all()
    with pytest.raises(ConfigurationError, match="an episode has 14 tokens, the base reads 13"):
        batch_episodes([episode], ROWS, max_tokens=13)


def test_shuffled_labels_tell_nothing(pool):
    rows = [[row % 6, row % 6 + 6] for row in range(120)]
    vectors = unit_vectors(rows, range(120))
    episodes = draw_episodes(pool, ways=4, shots=2, number=600, label_tokens=TOKENS, seed=3)

    def accuracy(asked):
        return np.mean(
            [said == each.answer for said, each in zip(answer_by_nearest(asked, vectors), asked, strict=True)]
        )

    shuffled = shuffle_told_labels(episodes, 0)
    assert accuracy(episodes) == 1.0 and abs(accuracy(shuffled) - 0.25) < 0.06
    assert [each.examples for each in shuffled] == [each.examples for each in episodes]
    assert all(Counter(left.told) == Counter(right.told) for left, right in zip(shuffled, episodes, strict=True))


def test_nearest_counts_n_grams_over_the_rows_of_warm_up():
    units = [[1, 2, 3], [1, 2, 4], [1, 2, 5], [3, 1, 2], [9, 9]]
    vectors = unit_vectors(units, [0, 1, 2])
    assert np.allclose(np.sqrt(vectors.multiply(vectors).sum(axis=1)), 1)
    likeness = (vectors @ vectors.T).toarray()
    # By hand: in row 0 the n-grams 1, 2, 1 2 are in all three known rows, 3, 2 3, 1 2 3 in one; 3 1 is in none.
    rare, none = 1 + np.log(4 / 2), 1 + np.log(4 / 1)
    own = np.sqrt(3 + 3 * rare**2)
    assert likeness[0, 1] == pytest.approx(3 / own**2)
    assert likeness[0, 3] == pytest.approx((3 + rare**2) / (own * np.sqrt(3 + rare**2 + 2 * none**2)))
    assert likeness[0, 4] == 0
