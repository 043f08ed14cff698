"""Parts: one method on one task with one seed, warmed up and asked; known by all that its numbers depend on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ...core.devices import usable_device
from ...core.digest import sha256_of_json
from ...core.versions import package_versions
from ..bases import Base
from ..declaration import placed
from .declaration import InContextMethod
from .episodes import Episode, draw_episodes, shuffle_told_labels
from .learner import label_token_ids, make_learner, surprise_when_repeated
from .material import Material, Sides
from .nearest import answer_by_nearest, unit_vectors
from .sequences import check_lengths
from .suite import InContextSuite
from .warm_up import warm_up

__all__ = ["PART_SCHEMA", "Part", "compute_part", "make_part"]

PART_SCHEMA = 1
"""Of a part's file; it rises when parts of an earlier version must be computed again."""

_TEST, _KNOWN, _SHUFFLED = range(3)
"""What episodes are drawn for; part of their seed."""

_PACKAGES = ("torch", "transformers", "scikit-learn", "numpy")
_Answer = Callable[[Sequence[Episode]], Sequence[int]]


@dataclass(frozen=True)
class Part:
    """What is computed at once.

    Attributes:
        task (`str`): name of the task.
        method (`InContextMethod`): what answers.
        seed (`int`): of held-out classes and speakers, warm-up and episodes.
        key (`str`): SHA-256 over rows, division, episodes, method, settings, seed, base and the names of the data
            sets, by which a part tells its results; the names of task and method do not count.
    """

    task: str
    method: InContextMethod
    seed: int
    key: str
    noun: ClassVar[str] = "part"

    @property
    def label(self) -> str:
        """For lines of progress."""
        return f"{self.task}/{self.method.name}, seed {self.seed}"

    @property
    def folder(self) -> str:
        """Of its file, below the work folder."""
        return f"in-context/{self.task}"

    @property
    def names(self) -> dict[str, str]:
        """What its content is called in this run."""
        return {"task": self.task, "method": self.method.name}


def make_part(
    suite: InContextSuite, material: Material, method: InContextMethod, seed: int, base: Base | None
) -> Part:
    """A part with its key.

    Args:
        suite (`InContextSuite`): ways, shots, episodes, settings.
        material (`Material`): rows of the task.
        method (`InContextMethod`): of the suite.
        seed (`int`): of the suite.
        base (`Base`, *optional*): of the task.
    """
    task = material.task
    vocabulary = None if base is None else sha256_of_json(list(base.vocabulary.symbols))
    identity = {
        "schema": PART_SCHEMA,
        "rows": material.digest,
        # Finished parts tell their results by these names.
        "warm_up": list(task.warm_up),
        "test": list(task.test),
        "held_out": [task.test_classes, task.test_speakers],
        "episodes": [suite.ways, suite.shots, suite.episodes, suite.check_episodes, suite.label_tokens],
        "kind": method.kind,
        "settings": asdict(suite.settings_of(method)) if method.reads_language_model else None,
        "seed": seed,
        "vocabulary": vocabulary,
        "base": base.weights["weights"] if base is not None and method.reads_language_model else None,
    }
    return Part(task.name, method, seed, sha256_of_json(identity))


def compute_part(
    part: Part, suite: InContextSuite, material: Material, base: Base | None, *, device: str | None = None
) -> dict[str, Any]:
    """Warm a method up and ask it.

    Args:
        part (`Part`): what to run.
        suite (`InContextSuite`): ways, shots, episodes, settings.
        material (`Material`): rows of the task.
        base (`Base`, *optional*): of the task; its vocabulary gives the labels.
        device (`str`, *optional*): where to train; a GPU where there is one.

    Returns:
        `dict`: the content of the part's file; docs/in-context.md describes it.

    Raises:
        SpeechPromptError: whatever drawing episodes or warm-up refuses.
    """
    cpu_start = time.process_time()
    sides = material.sides(part.seed)
    settings = suite.settings_of(part.method)
    losses: list[float] = []
    repeated: tuple[float, float] | None = None
    num_trained, seconds = 0, 0.0
    answer: _Answer
    if part.method.kind == "nearest":
        counted = [row for pool in sides.warm_up.values() for row in pool.rows]
        vectors = unit_vectors(material.units, counted)
        # No model reads the labels; rows are drawn alike whatever they are.
        asked = _draw(part.seed, suite, sides, range(max(suite.ways)))

        def answer(episodes: Sequence[Episode]) -> Sequence[int]:
            return answer_by_nearest(episodes, vectors)
    else:
        assert base is not None
        learner = make_learner(base, part.method, settings, seed=part.seed)
        label_tokens = label_token_ids(base, suite.label_tokens, learner.lm)
        learner.to(usable_device(device))
        tokens = [base.vocabulary.encode(row) for row in material.units]
        # What cannot be asked is refused before time is spent on warm-up.
        asked = _draw(part.seed, suite, sides, label_tokens)
        for each in asked:
            with placed(each.place):
                check_lengths(each.episodes, tokens, learner.lm.max_utterance_tokens)
        heard = [
            row
            for pool in sides.test.values()
            for row in pool.rows
            if 1 + 2 * len(tokens[row]) <= learner.lm.max_utterance_tokens
        ]
        if learner.prompt is not None and heard:
            repeated = surprise_when_repeated(learner.lm, [tokens[row] for row in heard[:: max(1, len(heard) // 50)]])
        start = time.perf_counter()
        losses = warm_up(
            learner,
            sides.warm_up,
            tokens,
            settings,
            ways=suite.ways,
            shots=suite.shots,
            label_tokens=label_tokens,
            seed=part.seed,
        )
        num_trained = sum(tensor.numel() for tensor in learner.trained) if settings.updates else 0
        seconds = time.perf_counter() - start

        def answer(episodes: Sequence[Episode]) -> Sequence[int]:
            return learner.answer(episodes, tokens)

    return {
        "schema": PART_SCHEMA,
        "task": part.task,
        "method": part.method.name,
        "kind": part.method.kind,
        "seed": part.seed,
        "measured": [_measure(part.seed, suite.check_episodes, each, answer) for each in asked],
        "trained_parameters": num_trained,
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu_start,
        "loss": _last(losses),
        "surprise": None if repeated is None else {"first": repeated[0], "again": repeated[1]},
        "settings": asdict(settings) if part.method.reads_language_model else {},
        "rows": sides.description(),
        "base": None if base is None else base.description,
        "versions": package_versions(_PACKAGES),
    }


@dataclass(frozen=True)
class _Asked:
    """Episodes of a data set of one side, of equal ways and shots."""

    side: str
    dataset: str
    ways: int
    shots: int
    episodes: tuple[Episode, ...] = ()

    @property
    def place(self) -> str:
        """For errors."""
        return f"{self.side} {self.dataset}"


def _draw(seed: int, suite: InContextSuite, sides: Sides, label_tokens: Sequence[int]) -> list[_Asked]:
    """Episodes that depend on rows, seed, ways and shots alone: all methods are asked the same."""
    found = []
    # Warm-up's own rows in episodes that it has not drawn: whether it has learnt anything at all.
    for side, pools, purpose, number in (
        ("test", sides.test, _TEST, suite.episodes),
        ("warm_up", sides.warm_up, _KNOWN, suite.check_episodes),
    ):
        for name, pool in pools.items():
            for ways in suite.ways:
                for shots in suite.shots:
                    asked = _Asked(side, name, ways, shots)
                    with placed(asked.place):
                        episodes = draw_episodes(
                            pool,
                            ways=ways,
                            shots=shots,
                            number=number,
                            label_tokens=label_tokens,
                            seed=(seed, ways, shots, purpose),
                        )
                    found.append(replace(asked, episodes=episodes))
    return found


def _measure(seed: int, check_episodes: int, asked: _Asked, answer: _Answer) -> dict[str, Any]:
    """The entry of some episodes in a part's file."""
    episodes = asked.episodes
    entry = {
        "side": asked.side,
        "dataset": asked.dataset,
        "ways": asked.ways,
        "shots": asked.shots,
        "correct": _right(episodes, answer),
    }
    if asked.side == "warm_up":
        return entry
    shuffled = shuffle_told_labels(episodes[:check_episodes], (seed, asked.ways, asked.shots, _SHUFFLED))
    return {
        **entry,
        "speaker": [each.speaker for each in episodes],
        "query": [each.query for each in episodes],
        "shuffled": _right(shuffled, answer),
    }


def _right(episodes: Sequence[Episode], answer: _Answer) -> list[int]:
    return [int(said == each.answer) for said, each in zip(answer(episodes), episodes, strict=True)]


def _last(losses: Sequence[float]) -> float | None:
    """Mean of the last tenth."""
    return float(np.mean(losses[-max(1, len(losses) // 10) :])) if losses else None
