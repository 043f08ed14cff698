"""Which process makes which shard of a corpus: pure functions.

What a shard holds depends on the corpus and on the rows of a shard alone, never on the number of processes: a run that
was stopped may be continued by another number of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.errors import ConfigurationError

__all__ = [
    "DEFAULT_SHARD_ROWS",
    "FileShare",
    "Shard",
    "World",
    "block_name",
    "file_shares",
    "own_shards",
    "plan_shards",
    "shard_order",
]

DEFAULT_SHARD_ROWS = 1000
"""Recordings of one shard: about three hours of read sentences, some megabytes of units."""


@dataclass(frozen=True)
class World:
    """The processes of one run, and which of them this is.

    Attributes:
        rank (`int`, defaults to 0): number of this process.
        size (`int`, defaults to 1): how many there are.
        local_rank (`int | None`, defaults to `None`): number of this process on its machine, if that is known.
    """

    rank: int = 0
    size: int = 1
    local_rank: int | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> World:
        """What torchrun and accelerate tell each process.

        Args:
            environment (`Mapping[str, str]`): with `WORLD_SIZE`, `RANK` and `LOCAL_RANK`, or without all of them.

        Raises:
            ConfigurationError: `WORLD_SIZE` without `RANK`, or values that contradict each other.
        """
        size = _count(environment, "WORLD_SIZE", 1)
        if size > 1 and not environment.get("RANK"):
            raise ConfigurationError(
                f"WORLD_SIZE is {size}, but RANK is not set: all processes would do the same work",
                hint="start them with torchrun or accelerate launch, set RANK to 0, 1, … by hand, or unset WORLD_SIZE",
            )
        rank = _count(environment, "RANK", 0) if size > 1 else 0
        local_rank = _count(environment, "LOCAL_RANK", 0) if environment.get("LOCAL_RANK") else None
        if size < 1 or rank >= size:
            raise ConfigurationError(
                f"RANK is {rank} and WORLD_SIZE is {size}", hint="ranks run from 0 to WORLD_SIZE - 1"
            )
        return cls(rank, size, local_rank)


def _count(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdecimal():
        raise ConfigurationError(f"{name} is {text!r}, which is no number of processes", hint=f"unset {name}")
    return int(text)


@dataclass(frozen=True)
class Shard:
    """A run of rows of one part.

    Attributes:
        part (`str`): train, validation, test or all.
        index (`int`): number of the shard in its part.
        total (`int`): how many shards the part has.
        start (`int`): first row.
        stop (`int`): row after the last one.
    """

    part: str
    index: int
    total: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """File name, such as `train-00012-of-00340.parquet`; the order of the names is that of the numbers."""
        width = max(5, len(str(self.total)))
        return f"{self.part}-{self.index:0{width}d}-of-{self.total:0{width}d}.parquet"


def plan_shards(num_rows: Mapping[str, int], shard_rows: int) -> tuple[Shard, ...]:
    """Every row of every part in one shard.

    Args:
        num_rows (`Mapping[str, int]`): rows by part; a part without rows has no shards.
        shard_rows (`int`): rows of a shard; the last one of a part may be smaller.

    Raises:
        ConfigurationError: a shard would have no rows.
    """
    if shard_rows < 1:
        raise ConfigurationError(f"a shard of {shard_rows} rows is impossible", hint="give at least one row a shard")
    shards: list[Shard] = []
    for part, rows in num_rows.items():
        total = -(-rows // shard_rows)
        shards += [
            Shard(part, index, total, index * shard_rows, min(rows, (index + 1) * shard_rows))
            for index in range(total)
        ]
    return tuple(shards)


def own_shards(shards: Sequence[Shard], world: World) -> tuple[Shard, ...]:
    """The shards that this process makes: every `world.size`-th one, so that no two processes make the same."""
    return tuple(shards[world.rank :: world.size])


@dataclass(frozen=True)
class FileShare:
    """What one process makes of one file of a stream: every `step`-th block from `offset` on.

    Attributes:
        file (`int`): number of the file.
        offset (`int`): its first block for this process.
        step (`int`): how many processes share the file.
    """

    file: int
    offset: int
    step: int

    def has(self, block: int) -> bool:
        """Whether this process makes a block."""
        return block % self.step == self.offset


def file_shares(num_files: int, world: World) -> tuple[FileShare, ...]:
    """The files of a stream that this process reads: whole ones, or with more processes than files a share of one.

    Args:
        num_files (`int`): files of the stream.
        world (`World`): the processes.
    """
    if world.size <= num_files:
        return tuple(FileShare(file, 0, 1) for file in range(world.rank, num_files, world.size))
    if not num_files:
        return ()
    file = world.rank % num_files
    return (FileShare(file, world.rank // num_files, len(range(file, world.size, num_files))),)


def block_name(part: str, file: int, block: int) -> str:
    """File name of a shard of a stream, whose end is not known: `train-00003-00012.parquet`, file 3, block 12."""
    return f"{part}-{file:05d}-{block:05d}.parquet"


def shard_order(name: str) -> tuple[str | int, ...]:
    """Key that sorts file names of shards by part, then by number, also where numbers have more than five digits."""
    return tuple(int(text) if text.isdecimal() else text for text in re.split(r"(\d+)", name))
