"""A corpus whose rows are numbered, as `Dataset`s: its shards are runs of rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Audio, Dataset, Features

from ..core.digest import sha256_of_json
from ..core.errors import DatasetError
from .corpus_files import ShardRecord, check_source
from .corpus_shards import Shard, World, own_shards, plan_shards

__all__ = ["FindShard", "ShardJob", "TableCorpus", "check_recordings"]

FindShard = Callable[[str, dict[str, Any]], ShardRecord | None]
"""The record of the shard of this name, made of these rows, or `None` if it is not there or not whole."""


@dataclass(frozen=True)
class ShardJob:
    """One shard that is to be made.

    Attributes:
        name (`str`): of its file.
        source (`dict`): which rows it holds: what its record says.
        features (`Features`): columns of `rows`.
        rows (`Iterable[dict]`): to be read once, in order, before the next job is asked for.
        is_last (`Callable[[], bool]`): whether the file of a stream ends with this shard; asked after `rows`.
    """

    name: str
    source: dict[str, Any]
    features: Features
    rows: Iterable[dict[str, Any]]
    is_last: Callable[[], bool]


class TableCorpus:
    """Parts with a known number of rows.

    Args:
        tables (`Mapping[str, Dataset]`): rows by part, with the column `audio`; rows without `item` are called by
            their number.
        shard_rows (`int`): rows of a shard.

    Raises:
        DatasetError: the corpus is empty, holds units, or no recordings.
        ConfigurationError: a shard would have no rows.
    """

    def __init__(self, tables: Mapping[str, Dataset], shard_rows: int) -> None:
        self._tables = {name: _undecoded(name, table) for name, table in tables.items()}
        num_rows = {name: len(table) for name, table in tables.items()}
        self._shards = {shard.name: shard for shard in plan_shards(num_rows, shard_rows)}
        if not self._shards:
            raise DatasetError("the corpus has no rows", hint="check the folder or file of the data set (--dataset)")
        self.plan: dict[str, Any] = {"shard_rows": shard_rows, "rows": num_rows}
        self.parts = tuple(tables)

    def owns_name(self, name: str) -> bool:
        """Whether a file name is that of one of its shards."""
        return name in self._shards

    def num_rows(self, world: World) -> int | None:
        """Rows that are this process's."""
        return sum(shard.stop - shard.start for shard in self._own(world))

    def jobs(self, world: World, find: FindShard) -> Iterator[ShardJob]:
        """This process's shards that are still to be made; all are looked at before the first one is made."""
        jobs = []
        for shard in self._own(world):
            source = self.source(shard.name)
            if find(shard.name, source) is None:
                table = self._table(shard)
                jobs.append(ShardJob(shard.name, source, table.features, _rows(table, shard), lambda: False))
        yield from jobs

    def missing(self, records: Mapping[str, ShardRecord]) -> tuple[str, ...]:
        """What the corpus lacks.

        Args:
            records (`Mapping[str, ShardRecord]`): of the shards that are there, by name.
        """
        return tuple(name for name in self._shards if name not in records)

    def source(self, name: str) -> dict[str, Any]:
        """The rows of a shard, as its record says them.

        Args:
            name (`str`): of its file.
        """
        shard = self._shards[name]
        return {**_borders(shard), "digest": rows_digest(self._table(shard))}

    def check(self, folder: Path, records: Mapping[str, ShardRecord]) -> None:
        """Refuse shards with other borders; their rows are compared when a shard is read.

        Args:
            folder (`Path`): of the shards.
            records (`Mapping[str, ShardRecord]`): of those that are there, by name.

        Raises:
            FingerprintMismatchError: a shard holds other rows.
        """
        for name, record in records.items():
            digest = record.source.get("digest")
            check_source(folder / name, record, {**_borders(self._shards[name]), "digest": digest})

    def _own(self, world: World) -> tuple[Shard, ...]:
        return own_shards(tuple(self._shards.values()), world)

    def _table(self, shard: Shard) -> Dataset:
        return self._tables[shard.part].select(range(shard.start, shard.stop))


def _borders(shard: Shard) -> dict[str, Any]:
    return {"part": shard.part, "rows": [shard.start, shard.stop]}


def _undecoded(name: str, table: Dataset) -> Dataset:
    check_recordings(name, table.features)
    return table.cast_column("audio", Audio(decode=False)) if isinstance(table.features["audio"], Audio) else table


def check_recordings(part: str, features: Mapping[str, Any]) -> None:
    """Refuse a part that does not hold recordings.

    Args:
        part (`str`): its name.
        features (`Mapping[str, Any]`): its columns.

    Raises:
        DatasetError: it holds units, or has no column `audio`.
    """
    if "units" in features:
        raise DatasetError(
            f"part {part} of the corpus holds units already", hint="give the recordings that they were made of"
        )
    if "audio" not in features:
        raise DatasetError(
            f"part {part} of the corpus has no column 'audio', only {', '.join(features)}",
            hint="call the column of recordings audio",
        )


def _rows(table: Dataset, shard: Shard) -> Iterator[dict[str, Any]]:
    has_items = "item" in table.column_names
    for number, row in enumerate(table, start=shard.start):
        yield row if has_items else {**row, "item": f"row {number}"}


def rows_digest(table: Dataset) -> str:
    """SHA-256 of what rows are called and how large their recordings are: no recording is read.

    Folders do not count, so that a corpus may be moved.

    Args:
        table (`Dataset`): with `audio`.
    """
    names = [name for name in ("item", "label", "speaker") if name in table.column_names]
    columns = [list(table[name]) for name in names]
    if "item" in names:
        columns[0] = [os.path.basename(str(item)) for item in columns[0]]
    return sha256_of_json([names, *columns, _sizes(table)])


def _sizes(table: Dataset) -> list[int | None]:
    sizes: list[int | None] = []
    for batch in table.select_columns("audio").with_format("arrow").iter(1000):
        audio = batch["audio"].combine_chunks()
        if isinstance(audio, pa.ChunkedArray):
            audio = pa.concat_arrays(audio.chunks)
        if pa.types.is_struct(audio.type):
            lengths = pc.binary_length(audio.field("bytes")).to_pylist()
            paths = audio.field("path").to_pylist()
        elif pa.types.is_binary(audio.type) or pa.types.is_large_binary(audio.type):
            lengths = pc.binary_length(audio).to_pylist()
            paths = [None] * len(lengths)
        else:
            paths = audio.to_pylist()
            lengths = [None] * len(paths)
        sizes += [
            length if length is not None else _file_size(path) for length, path in zip(lengths, paths, strict=True)
        ]
    return sizes


def _file_size(path: str | None) -> int | None:
    try:
        return os.stat(path).st_size if path is not None else None
    except OSError:
        return None
