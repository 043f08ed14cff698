"""A corpus that is read as it comes, without a copy on disk: its shards are blocks of rows of its files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset, Features, IterableDataset, Value

from ..core.errors import DatasetError
from .columns import unify
from .corpus_files import ShardRecord, check_source
from .corpus_shards import FileShare, World, block_name, file_shares
from .corpus_tables import FindShard, ShardJob, check_recordings
from .sources import AUDIO_FEATURE, rooted

__all__ = ["Labelling", "Stream", "StreamCorpus"]

_NAME = re.compile(r"(?P<part>.+)-(?P<file>\d{5,})-(?P<block>\d{5,})\.parquet")
# Rows that are brought to the columns of the result at once. Each block starts anew, so that a run that goes on calls
# them the same.
_ROWS_AT_ONCE = 64
_LABELLED = ("label", "speaker", "item")


@dataclass(frozen=True)
class Labelling:
    """Which columns label and name the rows, as for `load_splits`.

    Attributes:
        label_column (`tuple[str, ...] | None`, defaults to `None`): columns of the label; without them `label`, if
            there is one.
        speaker_column (`str | None`, defaults to `None`): column of the speaker.
    """

    label_column: tuple[str, ...] | None = None
    speaker_column: str | None = None


@dataclass(frozen=True)
class Stream:
    """One part that is read as it comes.

    Attributes:
        rows (`IterableDataset`): with as many shards as `files` has entries.
        files (`tuple[dict, ...]`): what tells each of its files from others.
        root (`Path | None`, defaults to `None`): where relative paths start.
    """

    rows: IterableDataset
    files: tuple[dict[str, Any], ...]
    root: Path | None = None


class StreamCorpus:
    """Parts whose rows are not counted before they are read.

    Args:
        streams (`Mapping[str, Stream]`): by part.
        shard_rows (`int`): rows of a shard; each file of the corpus starts a new one.
        labelling (`Labelling`, *optional*): of the rows.

    Raises:
        DatasetError: the corpus holds units, or no recordings.
    """

    def __init__(self, streams: Mapping[str, Stream], shard_rows: int, labelling: Labelling | None = None) -> None:
        self._labelling = labelling or Labelling()
        self._shard_rows = shard_rows
        self._streams = {name: _undecoded(name, stream) for name, stream in streams.items()}
        self._num_files = {name: len(stream.files) for name, stream in streams.items()}
        self.plan: dict[str, Any] = {"shard_rows": shard_rows, "files": self._num_files}
        self.parts = tuple(streams)

    def owns_name(self, name: str) -> bool:
        """Whether a file name is that of one of its shards."""
        try:
            self._place(name)
        except DatasetError:
            return False
        return True

    def num_rows(self, world: World) -> int | None:
        """Rows that are this process's: unknown."""
        return None

    def jobs(self, world: World, find: FindShard) -> Iterator[ShardJob]:
        """This process's shards that are still to be made; those that are there are looked at before."""
        wanted = [
            (part, stream, share, first)
            for part, stream in self._streams.items()
            for share in file_shares(len(stream.files), world)
            if (first := self._first_wanted(part, stream, share, find)) is not None
        ]
        for part, stream, share, first in wanted:
            yield from self._jobs_of_file(part, stream, share, first, find)

    def missing(self, records: Mapping[str, ShardRecord]) -> tuple[str, ...]:
        """What the corpus lacks, as far as it is known.

        Args:
            records (`Mapping[str, ShardRecord]`): of the shards that are there, by name.
        """
        missing = []
        for part, stream in self._streams.items():
            for file in range(len(stream.files)):
                block = 0
                while (name := block_name(part, file, block)) in records and not records[name].is_last:
                    block += 1
                if name not in records:
                    missing.append(name)
        return tuple(missing)

    def source(self, name: str) -> dict[str, Any]:
        """The rows of a shard, as its record says them.

        Args:
            name (`str`): of its file.

        Raises:
            DatasetError: it is no name of a shard of this corpus.
        """
        part, file, block = self._place(name)
        return self._source(part, self._streams[part], file, block)

    def check(self, folder: Path, records: Mapping[str, ShardRecord]) -> None:
        """Refuse shards of other rows, such as those of an earlier state of a file that has become shorter.

        Args:
            folder (`Path`): of the shards.
            records (`Mapping[str, ShardRecord]`): of those that are there, by name.

        Raises:
            FingerprintMismatchError: a shard holds other rows.
            DatasetError: a shard lies behind the one that ends its file.
        """
        last: dict[tuple[str, int], int] = {}
        places = {name: self._place(name) for name in records}
        for name, (part, file, block) in places.items():
            check_source(folder / name, records[name], self.source(name))
            if records[name].is_last:
                last[part, file] = min(block, last.get((part, file), block))
        for name, (part, file, block) in places.items():
            end = last.get((part, file), block)
            if block > end:
                raise DatasetError(
                    f"{folder / name} lies behind {block_name(part, file, end)}, with which their file ends",
                    hint="remove both and start the same command again, or choose another output folder (--output)",
                )

    def _place(self, name: str) -> tuple[str, int, int]:
        """Part, file and block of the name of a shard."""
        if match := _NAME.fullmatch(name):
            part, file, block = match["part"], int(match["file"]), int(match["block"])
            if file < self._num_files.get(part, 0) and name == block_name(part, file, block):
                return part, file, block
        raise DatasetError(f"{name} is no shard of this corpus, whose plan is {self.plan}")

    def _first_wanted(self, part: str, stream: Stream, share: FileShare, find: FindShard) -> int | None:
        """The first block of a share that is not there; `None` if the file is known to end before."""

        def record_of(block: int) -> ShardRecord | None:
            return find(block_name(part, share.file, block), self._source(part, stream, share.file, block))

        block = share.offset
        while (record := record_of(block)) is not None:
            if record.is_last:
                return None
            block += share.step
        # The end may be in a block of another process.
        others = map(record_of, range(max(0, block - share.step + 1), block))
        return None if any(record is not None and record.is_last for record in others) else block

    def _jobs_of_file(
        self, part: str, stream: Stream, share: FileShare, first: int, find: FindShard
    ) -> Iterator[ShardJob]:
        rows = stream.rows.shard(len(stream.files), share.file)
        rest = _Rest(rows.skip(first * self._shard_rows) if first else rows, stream.files[share.file])
        block = first
        # A file without rows has one block, so that it is known to be done.
        while not rest.is_empty or block == 0:
            name, source = block_name(part, share.file, block), self._source(part, stream, share.file, block)
            examples = rest.take(self._shard_rows)
            if share.has(block) and find(name, source) is None:
                start = block * self._shard_rows
                unified = self._unified(part, stream, share.file, start, examples)
                yield ShardJob(name, source, self._features(stream), unified, lambda: rest.is_empty)
            for _ in examples:
                pass
            block += 1

    def _source(self, part: str, stream: Stream, file: int, block: int) -> dict[str, Any]:
        labels = self._labelling.label_column
        return {
            "part": part,
            "file": stream.files[file],
            "block": block,
            "shard_rows": self._shard_rows,
            "label_column": list(labels) if labels else None,
            "speaker_column": self._labelling.speaker_column,
        }

    def _is_labelled(self, stream: Stream) -> bool:
        return self._labelling.label_column is not None or "label" in stream.rows.features

    def _features(self, stream: Stream) -> Features:
        if self._is_labelled(stream):
            return Features({"audio": AUDIO_FEATURE, **dict.fromkeys(_LABELLED, Value("string"))})
        return stream.rows.features

    def _unified(
        self, part: str, stream: Stream, file: int, start: int, examples: Iterator[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """Rows with the columns of the result, `audio` and `item`."""
        features = Features(stream.rows.features)
        if isinstance(features["audio"], Audio):
            # The feature itself encodes rows by torchcodec, also where there is nothing to encode.
            features["audio"] = AUDIO_FEATURE
        while batch := list(islice(examples, _ROWS_AT_ONCE)):
            table = Dataset.from_list(batch, features=features)
            if self._is_labelled(stream):
                name = f"{part} file {file} from row {start}:"
                table = unify(table, name, stream.root, self._labelling.label_column, self._labelling.speaker_column)
            else:
                table = rooted(table, stream.root)
            for number, row in enumerate(table, start=start):
                yield row if "item" in row else {**row, "item": f"file {file} row {number}"}
            start += len(batch)


class _Rest:
    """What is left of an iterator, which knows whether there is anything."""

    def __init__(self, rows: Iterable[dict[str, Any]], file: dict[str, Any]) -> None:
        self._rows = iter(rows)
        self._file = file
        self._head = self._next()

    def _next(self) -> dict[str, Any] | None:
        try:
            return next(self._rows, None)
        except Exception as error:  # datasets and the readers below it raise errors of many unrelated types
            raise DatasetError(
                f"the file {self._file} of the corpus cannot be read to its end: {error}",
                hint="mend it or the connection, then start the same command again: finished shards are kept",
            ) from error

    @property
    def is_empty(self) -> bool:
        return self._head is None

    def take(self, num_rows: int) -> Iterator[dict[str, Any]]:
        for _ in range(num_rows):
            if self._head is None:
                return
            row, self._head = self._head, self._next()
            yield row


def _undecoded(part: str, stream: Stream) -> Stream:
    rows = stream.rows
    if rows.features is None:
        # Formats without a schema, such as tar archives, tell their columns by their first rows.
        rows = rows._resolve_features()
    check_recordings(part, rows.features)
    if isinstance(rows.features["audio"], Audio):
        rows = rows.cast_column("audio", Audio(decode=False))
    return replace(stream, rows=rows)
