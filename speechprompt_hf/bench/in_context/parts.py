"""Parts: one method on one task with one seed, warmed up and asked; known by all that its numbers depend on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from ...core.devices import usable_device
from ...core.digest import sha256_of_json
from ...core.errors import ConfigurationError
from ...core.files import read_json, write_json
from ...core.versions import package_versions
from ..bases import Base
from .declaration import InContextMethod
from .episodes import Episode, Pool, draw_episodes, shuffle_told_labels
from .learner import label_token_ids, make_learner, surprise_when_repeated
from .material import Material, Sides
from .nearest import answer_by_nearest, unit_vectors
from .suite import InContextSuite
from .warm_up import warm_up

__all__ = ["PART_SCHEMA", "Part", "PartStore", "compute_part", "make_part"]

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
        key (`str`): SHA-256 over rows, division, episodes, method, settings, seed and base; names do not count.
    """

    task: str
    method: InContextMethod
    seed: int
    key: str

    @property
    def label(self) -> str:
        """For lines of progress."""
        return f"{self.task}/{self.method.name}, seed {self.seed}"


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


class PartStore:
    """Finished parts and locks in a work folder that several processes may share.

    Args:
        work (`Path`): the folder.
    """

    def __init__(self, work: Path) -> None:
        self.work = work

    def path(self, part: Part) -> Path:
        """The file of a part."""
        return self.work / "in-context" / part.task / f"{part.key[:32]}.json"

    def has(self, part: Part) -> bool:
        """Whether a part is done."""
        return self.path(part).is_file()

    def read(self, part: Part) -> dict[str, Any]:
        """The content of a part's file, under the names of this run.

        Raises:
            ConfigurationError: the file is damaged or another part's.
        """
        path = self.path(part)
        values = read_json(path)
        if not isinstance(values, dict) or values.get("key") != part.key:
            raise ConfigurationError(
                f"{path} is not the part {part.label}", hint="delete the file to compute it again"
            )
        return {**values, "task": part.task, "method": part.method.name}

    def write(self, part: Part, values: dict[str, Any]) -> None:
        """Keep a part, whole or not at all."""
        write_json(self.path(part), {"key": part.key, **values})

    def lock(self, name: str) -> FileLock:
        """What one process at a time may make; the system frees the lock of a process that was killed."""
        path = self.work / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)


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
        # No model reads them; rows are drawn alike whatever they are.
        label_tokens = tuple(range(max(suite.ways)))

        def answer(episodes: Sequence[Episode]) -> Sequence[int]:
            return answer_by_nearest(episodes, vectors)
    else:
        assert base is not None
        learner = make_learner(base, part.method, settings, seed=part.seed)
        label_tokens = label_token_ids(base, suite.label_tokens, learner.lm)
        learner.to(usable_device(device))
        tokens = [base.vocabulary.encode(row) for row in material.units]
        asked = [row for pool in sides.test.values() for row in pool.rows]
        if learner.prompt is not None:
            repeated = surprise_when_repeated(learner.lm, [tokens[row] for row in asked[:: max(1, len(asked) // 50)]])
        start = time.perf_counter()
        losses = warm_up(
            learner,
            list(sides.warm_up.values()),
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
        "measured": _measure(part.seed, suite, sides, label_tokens, answer),
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


def _measure(
    seed: int, suite: InContextSuite, sides: Sides, label_tokens: Sequence[int], answer: _Answer
) -> list[dict[str, Any]]:
    """An entry for each test set, number of ways and number of shots."""
    entries = []
    for name, pool in sides.test.items():
        for ways in suite.ways:
            for shots in suite.shots:
                place = (seed, ways, shots)
                episodes = _draw(pool, place, _TEST, suite.episodes, label_tokens)
                shuffled = shuffle_told_labels(episodes[: suite.check_episodes], (*place, _SHUFFLED))
                entries.append(
                    {
                        "side": "test",
                        "dataset": name,
                        "ways": ways,
                        "shots": shots,
                        "correct": _right(episodes, answer),
                        "speaker": [each.speaker for each in episodes],
                        "query": [each.query for each in episodes],
                        "shuffled": _right(shuffled, answer),
                    }
                )
    # Warm-up's own rows in episodes that it has not drawn: whether it has learnt anything at all.
    for name, pool in sides.warm_up.items():
        for ways in suite.ways:
            for shots in suite.shots:
                place = (seed, ways, shots)
                known = _draw(pool, place, _KNOWN, suite.check_episodes, label_tokens)
                entries.append(
                    {
                        "side": "warm_up",
                        "dataset": name,
                        "ways": ways,
                        "shots": shots,
                        "correct": _right(known, answer),
                    }
                )
    return entries


def _draw(
    pool: Pool, place: tuple[int, int, int], purpose: int, number: int, label_tokens: Sequence[int]
) -> tuple[Episode, ...]:
    """Episodes that depend on rows, seed, ways and shots alone: all methods are asked the same."""
    _, ways, shots = place
    return draw_episodes(
        pool, ways=ways, shots=shots, number=number, label_tokens=label_tokens, seed=(*place, purpose)
    )


def _right(episodes: Sequence[Episode], answer: _Answer) -> list[int]:
    return [int(said == each.answer) for said, each in zip(answer(episodes), episodes, strict=True)]


def _last(losses: Sequence[float]) -> float | None:
    """Mean of the last tenth."""
    return float(np.mean(losses[-max(1, len(losses) // 10) :])) if losses else None
