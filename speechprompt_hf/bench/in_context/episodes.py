"""Episodes of in-context learning: which classes are in play, who tells them, who is asked. Pure and seeded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ...core.errors import ConfigurationError, DatasetError

__all__ = ["Episode", "Pool", "Split", "draw_episodes", "shuffle_told_labels", "split_rows"]


@dataclass(frozen=True)
class Pool:
    """Rows that episodes are drawn from.

    Attributes:
        rows (`tuple[int, ...]` of length R): row numbers of the data set.
        labels (`tuple[str, ...]` of length R): their classes.
        speakers (`tuple[str | None, ...]` of length R): their speakers; `None` where that is not known.
    """

    rows: tuple[int, ...]
    labels: tuple[str, ...]
    speakers: tuple[str | None, ...]

    @classmethod
    def of(cls, labels: Sequence[str], speakers: Sequence[str | None], first_row: int = 0) -> Pool:
        """All rows of a data set.

        Args:
            labels (`Sequence[str]` of length R): classes.
            speakers (`Sequence[str | None]` of length R): speakers, `None` where they are not known.
            first_row (`int`, defaults to 0): number of the first row, where rows of several data sets are counted on.
        """
        names = tuple(None if name is None else str(name) for name in speakers)
        return cls(tuple(range(first_row, first_row + len(labels))), tuple(labels), names)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that occur, by name."""
        return tuple(sorted(set(self.labels)))

    @property
    def voices(self) -> tuple[str | int, ...]:
        """Whom episodes tell apart (length R): the speaker, or the row's number where the speaker is not known."""
        return tuple(row if name is None else name for row, name in zip(self.rows, self.speakers, strict=True))

    def where(self, keep: Sequence[bool]) -> Pool:
        """The rows with a true value in `keep` (length R)."""
        kept = [index for index, wanted in enumerate(keep) if wanted]
        return Pool(
            tuple(self.rows[index] for index in kept),
            tuple(self.labels[index] for index in kept),
            tuple(self.speakers[index] for index in kept),
        )


@dataclass(frozen=True)
class Split:
    """Rows that warm up and rows that are measured: no class and no known speaker is on both sides.

    Attributes:
        warm_up (`Pool`): rows of neither a test class nor a test speaker.
        test (`Pool`): rows of both a test class and a test speaker.
    """

    warm_up: Pool
    test: Pool


def split_rows(pool: Pool, *, test_classes: int, test_speakers: float, seed: int) -> Split:
    """Draw the classes and the speakers that warm-up must not see.

    Args:
        pool (`Pool`): all rows.
        test_classes (`int`): how many classes are held out.
        test_speakers (`float`): share of the speakers that are held out, in (0, 1); at least one on each side. A row
            whose speaker is not known counts as one.
        seed (`int`): of the draw.

    Returns:
        `Split`: rows of a test class by another speaker, and of another class by a test speaker, are on neither side.

    Raises:
        ConfigurationError: the share is not in (0, 1).
        DatasetError: too few classes or speakers.
    """
    if not 0 < test_speakers < 1:
        raise ConfigurationError(f"test_speakers is {test_speakers}", hint="a share in (0, 1)")
    classes, voices = pool.classes, sorted(set(pool.voices), key=lambda voice: (str(voice), isinstance(voice, int)))
    if not 2 <= test_classes <= len(classes) - 2:
        raise DatasetError(
            f"{test_classes} of {len(classes)} classes are to be held out",
            hint="hold out 2 at least and leave 2 for warm-up (test_classes)",
        )
    if len(voices) < 2:
        raise DatasetError(f"there is one speaker: {voices[0]}", hint="warm-up and test need speakers of their own")
    generator = np.random.default_rng(seed)
    number = min(max(round(test_speakers * len(voices)), 1), len(voices) - 1)
    held_classes = set(generator.choice(classes, test_classes, replace=False).tolist())
    held_voices = {voices[index] for index in generator.choice(len(voices), number, replace=False)}
    sides = [
        (label in held_classes, voice in held_voices) for label, voice in zip(pool.labels, pool.voices, strict=True)
    ]
    return Split(
        warm_up=pool.where([not any(side) for side in sides]),
        test=pool.where([all(side) for side in sides]),
    )


@dataclass(frozen=True)
class Episode:
    """N classes told by k examples each, and a question.

    Attributes:
        examples (`tuple[int, ...]` of length N·k): row numbers, in the order in which they are told.
        told (`tuple[int, ...]` of length N·k): the class, from 0 to N - 1, that each is said to be of.
        query (`int`): row number of what is asked.
        answer (`int`): its class, from 0 to N - 1.
        label_tokens (`tuple[int, ...]` of length N): token id of each class, distinct.
        classes (`tuple[str, ...]` of length N): names of the classes, which the model is not told.
        speaker (`str | None`): of the query.
    """

    examples: tuple[int, ...]
    told: tuple[int, ...]
    query: int
    answer: int
    label_tokens: tuple[int, ...]
    classes: tuple[str, ...]
    speaker: str | None


def draw_episodes(
    pool: Pool,
    *,
    ways: int,
    shots: int,
    number: int,
    label_tokens: Sequence[int],
    seed: int | Sequence[int],
    balanced: bool = True,
) -> tuple[Episode, ...]:
    """Draw episodes; what is asked is by a speaker who tells none of the examples, as far as speakers are known.

    Args:
        pool (`Pool`): rows to draw from.
        ways (`int`): classes in play, N.
        shots (`int`): examples a class, k.
        number (`int`): episodes.
        label_tokens (`Sequence[int]`): token ids to draw the N labels of an episode from, without repetition.
        seed (`int | Sequence[int]`): of the draw.
        balanced (`bool`, defaults to `True`): every class is told k times; else the class of each of the N·k examples
            is drawn, so that the number of examples heard before tells nothing about the next.

    Returns:
        `tuple[Episode, ...]`: equal arguments give equal episodes; other label tokens give the same rows.

    Raises:
        ConfigurationError: fewer than 2 ways, 1 shot or 1 episode, or fewer label tokens than ways.
        DatasetError: no speaker of the pool can be asked: too few classes have k rows by others.
    """
    if ways < 2 or shots < 1 or number < 1:
        raise ConfigurationError(
            f"{number} episodes of {ways} ways and {shots} shots", hint="at least 1 episode, 2 ways and 1 shot"
        )
    tokens = sorted(set(label_tokens))
    if len(tokens) < ways:
        raise ConfigurationError(f"{len(tokens)} label tokens for {ways} ways", hint="as many tokens as ways")
    table, voices = _table(pool, ways, shots if balanced else 1), pool.voices
    # Of its own, so that the rows do not depend on how many tokens there are.
    generator, deal = (np.random.default_rng([*_numbers(seed), stream]) for stream in range(2))
    episodes = []
    for _ in range(number):
        place = table.askable[int(generator.integers(len(table.askable)))]
        voice, asked = voices[place], pool.labels[place]
        others = [name for name in table.tellable(voice) if name != asked]
        drawn = [others[index] for index in generator.permutation(len(others))[: ways - 1]]
        classes = [[asked, *drawn][index] for index in generator.permutation(ways)]
        told = generator.permutation(np.repeat(np.arange(ways), shots)).tolist()
        if not balanced:
            told = generator.integers(ways, size=ways * shots).tolist()
        examples = _examples([classes[number] for number in told], voice, voices, table, generator)
        labels = deal.permutation(len(tokens))[:ways]
        episodes.append(
            Episode(
                examples=tuple(pool.rows[index] for index in examples),
                told=tuple(told),
                query=pool.rows[place],
                answer=classes.index(asked),
                label_tokens=tuple(tokens[index] for index in labels),
                classes=tuple(classes),
                speaker=pool.speakers[place],
            )
        )
    return tuple(episodes)


def _numbers(seed: int | Sequence[int]) -> list[int]:
    return [seed] if isinstance(seed, int) else list(seed)


@dataclass(frozen=True)
class _Table:
    """What a pool can tell and ask.

    Attributes:
        places (`dict[str, list[int]]`): class → its places in the pool.
        own (`Counter[tuple[str | int, str]]`): how many rows a speaker has of a class.
        rows_needed (`int`): so many rows by others a class needs to be told.
        askable (`list[int]`): places whose class, and enough others, can be told by others.
    """

    places: dict[str, list[int]]
    own: Counter[tuple[str | int, str]]
    rows_needed: int
    askable: list[int]

    def by_others(self, label: str, speaker: str | int) -> int:
        """Rows of a class by other speakers."""
        return len(self.places[label]) - self.own[speaker, label]

    def tellable(self, speaker: str | int) -> list[str]:
        """Classes that can be told to a speaker."""
        return [label for label in self.places if self.by_others(label, speaker) >= self.rows_needed]


@lru_cache(maxsize=64)
def _table(pool: Pool, ways: int, rows_needed: int) -> _Table:
    places: dict[str, list[int]] = {label: [] for label in pool.classes}
    for place, label in enumerate(pool.labels):
        places[label].append(place)
    voices = pool.voices
    table = _Table(places, Counter(zip(voices, pool.labels, strict=True)), rows_needed, [])
    told = {voice: table.tellable(voice) for voice in set(voices)}
    table.askable.extend(
        place
        for place, (label, voice) in enumerate(zip(pool.labels, voices, strict=True))
        if len(told[voice]) >= ways and label in told[voice]
    )
    if not table.askable:
        most = max(map(len, told.values()), default=0)
        raise DatasetError(
            f"no speaker can be asked: {most} of {len(pool.classes)} classes have {rows_needed} row(s) by others, and "
            f"{ways} are needed",
            hint="fewer ways or shots, or hold out more classes and speakers",
        )
    return table


def _examples(
    told: Sequence[str], voice: str | int, voices: Sequence[str | int], table: _Table, generator: np.random.Generator
) -> list[int]:
    """A place by another speaker for each told class, without repetition as far as the class has rows."""
    taken: dict[str, set[int]] = {label: set() for label in told}
    chosen = []
    for label in told:
        places, gone = table.places[label], taken[label]
        if len(gone) == table.by_others(label, voice):
            gone.clear()
        while True:
            place = places[int(generator.integers(len(places)))]
            if place not in gone and voices[place] != voice:
                break
        gone.add(place)
        chosen.append(place)
    return chosen


def shuffle_told_labels(episodes: Sequence[Episode], seed: int | Sequence[int]) -> tuple[Episode, ...]:
    """The control: the same examples and questions, the examples' labels dealt out anew, so that they tell nothing.

    Args:
        episodes (`Sequence[Episode]`): of `draw_episodes`.
        seed (`int | Sequence[int]`): of the shuffling.
    """
    generator = np.random.default_rng(seed)
    return tuple(replace(each, told=tuple(generator.permutation(each.told).tolist())) for each in episodes)
