import numpy as np
import pytest

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.evaluation import (
    SEQUENCE_METRICS,
    sequence_score,
    sequence_scores,
    statistics_interval,
    validate_sequence_report,
)


def ratio(sums):
    return sums[:, 0] / sums[:, 1]


def test_values_of_small_sets():
    references, said = ["the cat sat", "a dog"], ["the cat", "a big dog"]
    assert sequence_score("wer", references, said) == 2 / 5
    assert sequence_score("cer", ["abc"], ["abcd"]) == 1 / 3
    assert sequence_score("wer", ["a"], ["a b c"]) == 2.0
    assert sequence_score("bleu", ["the cat sat on the mat"], ["the cat sat on the mat"]) == pytest.approx(100)
    assert sequence_score("slot_f1", ["[a] x [/a] [b] y [/b]"], ["[a] z [/a]"]) == pytest.approx(2 / 3)
    assert sequence_score("slot_value_cer", ["[a] xx [/a] [b] yy [/b]"], ["[a] xz [/a]"]) == 3 / 4


def test_the_corpus_is_one_not_a_mean_of_utterances():
    assert sequence_score("wer", ["a", "a b c d e f g h i"], ["b", "a b c d e f g h i"]) == 1 / 10


@pytest.mark.parametrize("metric", sorted(SEQUENCE_METRICS))
def test_intervals_hold_the_value(metric):
    generator = np.random.default_rng(0)
    words = ["[a] x [/a]", "[b] y [/b]", "word", "other", "third"]
    references = [" ".join(generator.choice(words, 5)) for _ in range(40)]
    said = [text if number % 3 else " ".join(generator.choice(words, 4)) for number, text in enumerate(references)]
    scored = sequence_scores([metric], references, said)[metric]
    assert scored.interval.low < scored.value < scored.interval.high and scored.interval.over == "rows"
    assert scored.value == sequence_score(metric, references, said)
    again = sequence_scores([metric], references, said)[metric]
    other = sequence_scores([metric], references, said, seed=1)[metric]
    assert again == scored != other


def test_speakers_are_drawn_whole_from_eight_on():
    # Of each speaker all rows are right or all are wrong: rows would pretend to know ten times as much.
    rows = np.array([(speaker % 2, 1) for speaker in range(10) for _ in range(10)])
    speakers = [f"s{number // 10}" for number in range(100)]
    by_speaker = statistics_interval(rows, ratio, speakers)
    by_row = statistics_interval(rows, ratio)
    assert (by_speaker.over, by_row.over) == ("speakers", "rows")
    assert by_speaker.high - by_speaker.low > 2 * (by_row.high - by_row.low)
    few = statistics_interval(rows, ratio, [f"s{number // 20}" for number in range(100)])
    unknown = statistics_interval(rows, ratio, [None, *speakers[1:]])
    assert few == by_row == unknown


def test_an_interval_of_a_share_agrees_with_that_of_an_accuracy():
    from speechprompt_hf.evaluation import accuracy_interval

    hits = np.random.default_rng(1).random(200) < 0.7
    ours = statistics_interval(np.stack([hits, np.ones(200)], axis=1), ratio)
    known = accuracy_interval(hits)
    assert ours.low == pytest.approx(known.low, abs=0.01) and ours.high == pytest.approx(known.high, abs=0.01)


def test_what_cannot_be_scored_is_told():
    with pytest.raises(ConfigurationError, match="there is no metric 'accuracy'"):
        sequence_score("accuracy", ["a"], ["a"])
    with pytest.raises(ConfigurationError, match="wer of 0 references and 0 texts"):
        sequence_score("wer", [], [])
    with pytest.raises(ConfigurationError, match="wer of 2 references and 1 texts"):
        sequence_scores(["wer"], ["a", "b"], ["a"])
    with pytest.raises(ConfigurationError, match="no rows"):
        statistics_interval(np.zeros((0, 2)), ratio)


def test_a_report_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match=r"schema is missing.*output is None"):
        validate_sequence_report({})


def test_what_was_said_is_normalised_before_it_is_measured():
    from datasets import Dataset

    from speechprompt_hf.evaluation.saying import Said
    from speechprompt_hf.evaluation.sequence_report import text_scores
    from speechprompt_hf.tasks import slot_filling, speech_recognition

    def value(task, reference, said):
        rows = Dataset.from_dict({"units": [[1]], "label": [reference], "speaker": ["a"], "item": ["x"]})
        made = text_scores(task, rows, [Said(said, -0.1)])
        assert made["examples"][0]["said"] == reference
        return made["value"]

    assert value(speech_recognition, "don't turn it off", "Don't 'turn' it, off!") == 0
    text = "[Size] large cup [/Size] [roast] dark [/roast]"
    assert value(slot_filling, text, "[Size] Large, cup [/Size] [roast]  'dark' [/roast]") == 1
