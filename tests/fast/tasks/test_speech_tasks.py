"""Tasks of speech: identities of what is read and what is to be said, damage against what must hold of it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.tasks import (
    SPEECH_TASKS,
    SpeechTask,
    speech_continuation,
    speech_task_by_name,
    speech_translation_to_speech,
    unit_correction,
    unit_inpainting,
)
from speechprompt_hf.tasks.unit_pairs import continuation_pair, damaged_units

K = 30


def merged_rows(number=40, longest=60, seed=0):
    generator = np.random.default_rng(seed)
    for _ in range(number):
        steps = generator.integers(1, K, generator.integers(1, longest + 1))
        yield (np.cumsum(steps) % K).tolist(), generator.integers(1, 9, len(steps)).tolist()


@pytest.mark.parametrize("frames", [None, 1, 20, 75.5, 10_000])
def test_beginning_and_rest_are_the_recording(frames):
    for units, durations in merged_rows():
        for lengths in (None, durations):
            pair = continuation_pair(units, lengths, frames=frames, share=0.5)
            if len(units) < 2:
                assert pair is None
                continue
            read, said = pair
            assert read + said == units and read and said
            counted = lengths or [1] * len(units)
            heard = sum(counted[: len(read)])
            most = min(sum(counted) / 2, frames if frames and lengths else np.inf)
            # Not a unit more than fits, and not one less.
            assert heard <= most or len(read) == 1
            assert heard + counted[len(read)] > most


@pytest.mark.parametrize("damage", ["noise", "spans"])
def test_no_damage_is_the_identity(damage):
    for units, _ in merged_rows():
        assert damaged_units(units, K, damage=damage, rate=0, seed=3) == units
        task = replace(unit_correction, damage=damage, damage_rate=0.0)
        assert task.pair(units, num_units=K) == (units, units)


@pytest.mark.parametrize("damage", ["noise", "spans"])
@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_damage_is_the_same_again_and_has_no_repeats(damage, rate):
    changed = 0
    for units, _ in merged_rows():
        made = damaged_units(units, K, damage=damage, rate=rate, seed=1)
        assert made == damaged_units(units, K, damage=damage, rate=rate, seed=1)
        assert made and all(left != right for left, right in pairwise(made))
        assert set(made) <= set(range(K))
        changed += made != damaged_units(units, K, damage=damage, rate=rate, seed=2)
    assert changed > 20


def test_as_much_is_damaged_as_was_asked_for():
    generator = np.random.default_rng(0)
    units = (np.cumsum(generator.integers(1, 1000, 20_000)) % 1000).tolist()
    # Where all units differ, what is left of the recording is counted by a longest common subsequence of sets.
    for rate in (0.1, 0.3):
        numbered = [5 * place + 100_000 for place in range(len(units))]
        made = damaged_units(numbered, 10, damage="noise", rate=rate)
        left = set(made) & set(numbered)
        # A third of the damage puts units in and leaves those that were there.
        assert abs(len(left) / len(units) - (1 - rate * 2 / 3)) < 0.02
        made = damaged_units(numbered, 10, damage="spans", rate=rate, span=8)
        assert len(set(numbered) - set(made)) == round(rate * len(units))


def test_nothing_of_a_damaged_stretch_is_left():
    units = list(range(1000, 1100))
    for seed in range(20):
        made = damaged_units(units, 10, damage="spans", rate=0.3, span=8, seed=seed)
        places = [unit - 1000 for unit in made if unit >= 1000]
        assert places == sorted(places) and len(places) == 70
    everything = damaged_units(units, 10, damage="spans", rate=1.0)
    assert not set(units) & set(everything)


def test_everything_left_out_leaves_a_unit():
    for seed in range(30):
        assert damaged_units([7], K, damage="noise", rate=1.0, seed=seed)


def test_both_sides_of_a_translation_are_its_columns():
    task = speech_translation_to_speech
    assert task.pair([1, 1, 2], None, [3, 3, 4], num_units=K) == ([1, 2], [3, 4])
    assert task.pair([1, 2], None, [], num_units=K) is None
    assert task.pair([1, 2], None, None, num_units=K) is None


def test_what_is_read_does_not_depend_on_what_is_to_be_said():
    for units, durations in merged_rows(longest=40):
        pair = speech_continuation.pair(units, durations, num_units=K, frame_rate=50.0)
        if pair is None or len(pair[1]) < 2:
            continue
        # The same frames behind the beginning, with other units.
        other = [*pair[0], *((unit + 1) % K + K for unit in pair[1])]
        assert speech_continuation.pair(other, durations, num_units=2 * K, frame_rate=50.0)[0] == pair[0]


def test_records():
    for task in SPEECH_TASKS.values():
        assert SpeechTask.from_record(task.as_record()) == task
        assert task.sequence_task.metrics == ("uer",) and task.sequence_task.tokens == "words"
        assert speech_task_by_name(task.name) is task
    with pytest.raises(ConfigurationError, match="there is no task of speech in"):
        SpeechTask.from_record({"name": "x"})
    with pytest.raises(ConfigurationError, match="there is no ready-made task of speech 'x'"):
        speech_task_by_name("x")
    assert unit_inpainting.damage == "spans"


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"kind": "singing"}, "kind is 'singing'"),
        ({"kind": "translation"}, "has the target column None"),
        ({"target_column": "x"}, "has the target column 'x'"),
        ({"prompt_seconds": 0}, "prompt_seconds is 0"),
        ({"prompt_share": 1.0}, r"prompt_share is 1\.0"),
        ({"damage": "fire"}, "damage is 'fire'"),
        ({"damage_rate": 2}, "the rate of damage is 2"),
        ({"damage_span": 0}, "a damaged stretch of 0 units"),
        ({"max_tokens": 1}, "max_tokens is 1"),
    ],
    ids=str,
)
def test_impossible_tasks(fields, match):
    with pytest.raises(ConfigurationError, match=match):
        replace(speech_continuation, **fields)
