"""What a model reads and what it is to say, both made of one recording's units: prompts, and units with damage."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import numpy as np

from ..core.errors import ConfigurationError

__all__ = ["DAMAGES", "Damage", "continuation_pair", "damaged_units", "without_repeats"]

Damage = Literal["noise", "spans"]
DAMAGES: tuple[Damage, ...] = ("noise", "spans")


def without_repeats(units: Sequence[int]) -> list[int]:
    """Units without equal neighbours."""
    return [int(unit) for unit, _ in groupby(units)]


def continuation_pair(
    units: Sequence[int], durations: Sequence[int] | None = None, *, frames: float | None = None, share: float = 0.5
) -> tuple[list[int], list[int]] | None:
    """The beginning of a recording, and what follows it; together they are the recording's units.

    Args:
        units (`Sequence[int]` of length U): merged units.
        durations (`Sequence[int]` of length U, *optional*): frames of each; without them each counts as one.
        frames (`float`, *optional*): the most frames of the beginning; only where durations are known.
        share (`float`, defaults to 0.5): the most of the recording's frames that are its beginning.

    Returns:
        `tuple[list[int], list[int]] | None`: both have a unit at least; `None` where there are fewer than two units.
    """
    if len(units) < 2:
        return None
    lengths = np.ones(len(units)) if durations is None else np.asarray(durations, dtype=float)
    most = share * lengths.sum()
    if frames is not None and durations is not None:
        most = min(most, frames)
    # Units that end by then.
    number = int(np.searchsorted(np.cumsum(lengths), most + 1e-9, side="right"))
    number = min(max(number, 1), len(units) - 1)
    return [int(unit) for unit in units[:number]], [int(unit) for unit in units[number:]]


def damaged_units(
    units: Sequence[int], num_units: int, *, damage: Damage = "noise", rate: float, span: int = 5, seed: int = 0
) -> list[int]:
    """Units as a damaged recording might have them; the same for the same units and seed.

    Args:
        units (`Sequence[int]` of length U): merged units.
        num_units (`int`): units K that there are.
        damage (`str`, defaults to `"noise"`): `"noise"`: units are replaced, left out, or have one put in behind them,
            each alike; `"spans"`: stretches are replaced by random units, and nothing of them is left.
        rate (`float`): share of the units that are damaged, 0 to 1: of `"noise"` each with this probability, of
            `"spans"` as many as come nearest.
        span (`int`, defaults to 5): units of a stretch.
        seed (`int`, defaults to 0): of the draws.

    Returns:
        `list[int]`: without equal neighbours, and with a unit at least; with a rate of 0 the units themselves.

    Raises:
        ConfigurationError: there is no such damage, or a number is out of range.
    """
    check_damage(damage, rate, span)
    if not len(units) or rate == 0:
        return [int(unit) for unit in units]
    key = hashlib.sha256(f"{seed} {' '.join(map(str, units))}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(key[:8], "big"))
    row = np.asarray(units, dtype=np.int64)
    made = (
        _noised(row, num_units, rate, generator)
        if damage == "noise"
        else _with_spans(row, num_units, rate, span, generator)
    )
    return without_repeats(made) or [int(units[0])]


def check_damage(damage: str, rate: float, span: int) -> None:
    """Refuse what is no damage.

    Raises:
        ConfigurationError: it is none of `DAMAGES`, or a number is out of range.
    """
    if damage not in DAMAGES:
        raise ConfigurationError(f"damage is {damage!r}", hint=f"one of {', '.join(map(repr, DAMAGES))}")
    if not 0 <= rate <= 1:
        raise ConfigurationError(f"the rate of damage is {rate}", hint="a share from 0 to 1")
    if span < 1:
        raise ConfigurationError(f"a damaged stretch of {span} units", hint="at least 1")


def _noised(row: np.ndarray, num_units: int, rate: float, generator: np.random.Generator) -> list[int]:
    made: list[int] = []
    hit = generator.random(len(row)) < rate
    kinds, others = generator.integers(0, 3, len(row)), generator.integers(0, num_units, len(row))
    for unit, is_hit, kind, other in zip(row.tolist(), hit, kinds, others.tolist(), strict=True):
        if not is_hit:
            made.append(unit)
        elif kind == 0:
            made.append(other)
        elif kind == 1:
            made += [unit, other]
    return made


def _with_spans(
    row: np.ndarray, num_units: int, rate: float, span: int, generator: np.random.Generator
) -> list[int]:
    wanted = round(rate * len(row))
    hit = np.zeros(len(row), dtype=bool)
    starts = generator.permutation(len(row))
    for start in starts:
        left = wanted - int(hit.sum())
        if left <= 0:
            break
        free = np.flatnonzero(~hit[start : start + span])[:left]
        hit[start + free] = True
    return np.where(hit, generator.integers(0, num_units, len(row)), row).tolist()
