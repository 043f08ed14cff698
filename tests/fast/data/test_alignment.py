from itertools import product

import numpy as np
import pytest
import torch

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.core.extras import torchaudio_is_usable
from speechprompt_hf.data.alignment import align

ENGINES = [
    pytest.param(
        True, marks=pytest.mark.skipif(not torchaudio_is_usable(), reason="torchaudio is not installed here")
    ),
    False,
]


@pytest.fixture(params=ENGINES, ids=["torchaudio", "own"])
def engine(request, monkeypatch):
    monkeypatch.setattr("speechprompt_hf.data.alignment.torchaudio_is_usable", lambda: request.param)


def slow_alignment(scores, targets, blank):
    """The best path through blank, target, blank, target, … by dynamic programming over all states."""
    states = [blank]
    for token in targets:
        states += [token, blank]
    best = np.full((len(scores), len(states)), -np.inf)
    origin = np.zeros(best.shape, dtype=int)
    best[0, :2] = scores[0, states[:2]]
    for frame, state in product(range(1, len(scores)), range(len(states))):
        before = [state] + ([state - 1] if state else [])
        if state > 1 and states[state] != blank and states[state] != states[state - 2]:
            before.append(state - 2)
        origin[frame, state] = max(before, key=lambda earlier: best[frame - 1, earlier])
        best[frame, state] = best[frame - 1, origin[frame, state]] + scores[frame, states[state]]
    state = max((len(states) - 2, len(states) - 1), key=lambda last: best[-1, last])
    path = [state]
    for frame in range(len(scores) - 1, 0, -1):
        state = origin[frame, state]
        path.append(state)
    path = np.array(path[::-1])
    spans = []
    for number, token in enumerate(targets):
        frames = np.flatnonzero(path == 2 * number + 1)
        spans.append((token, frames[0], frames[-1] + 1, np.exp(scores[frames, token]).mean()))
    return spans


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("seed", range(8))
def test_spans_equal_those_of_a_slow_search(seed):
    generator = np.random.default_rng(seed)
    blank = int(generator.integers(5))
    targets = [int(token) for token in generator.integers(0, 5, 4) if token != blank] or [(blank + 1) % 5]
    scores = torch.from_numpy(generator.normal(size=(14, 5)) * 2).log_softmax(-1).float()
    spans = align(scores, targets, blank)
    for span, expected in zip(spans, slow_alignment(scores.double().numpy(), targets, blank), strict=True):
        assert tuple(span[:3]) == expected[:3]
        assert span.score == pytest.approx(expected[3], abs=1e-5)


@pytest.mark.usefixtures("engine")
def test_impossible_alignments_are_refused():
    scores = torch.zeros(3, 4).log_softmax(-1)
    with pytest.raises(ConfigurationError, match="need 5 frames, there are 3"):
        align(scores, [1, 1, 1])
    with pytest.raises(ConfigurationError, match="target 0 with blank 0"):
        align(scores, [1, 0])
    with pytest.raises(ConfigurationError, match="target 4"):
        align(scores, [4])
    assert align(scores, []) == []


@pytest.mark.usefixtures("engine")
def test_a_path_through_impossible_frames_and_repeats():
    # Two equal tokens need the blank between them, and as many frames as there are leave no choice.
    scores = torch.full((3, 3), -30.0)
    scores[0, 2] = scores[1, 0] = scores[2, 2] = 0.0
    assert [tuple(span[:3]) for span in align(scores, [2, 2])] == [(2, 0, 1), (2, 2, 3)]
