"""Shards on disk: Parquet files that say what they hold and what made them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..core.errors import ConfigurationError, DatasetError, FingerprintMismatchError
from ..core.files import atomic_path
from .extraction import SkippedItem

__all__ = [
    "PROSODY_COLUMN",
    "DamagedShardError",
    "ShardRecord",
    "are_same_units",
    "check_fingerprint",
    "check_shard",
    "check_source",
    "has_prosody",
    "read_record",
    "remove_leftovers",
    "write_shard",
]

PROSODY_COLUMN = "prosody"
"""Column of the second stream, where the processor makes one beside the units."""

_KEY = b"speechprompt_shard"
# Whoever writes a file needs seconds: what is older was left behind by a process that is dead.
_SECONDS_OF_WRITING = 3600.0


class DamagedShardError(DatasetError):
    """A file in a shard's place is cut or corrupt."""


@dataclass(frozen=True)
class ShardRecord:
    """What a shard says of itself, in the metadata of its Parquet file.

    Attributes:
        fingerprint (`dict`): of the processor that made the units.
        source (`dict`): which rows of which corpus they are.
        rows (`int`): recordings with units.
        seconds (`float`): of sound in these recordings.
        skipped (`tuple[SkippedItem, ...]`): recordings left out.
        is_last (`bool`): whether the file of a stream ends with this shard.
        versions (`dict`): of the packages that made it.
    """

    fingerprint: dict[str, Any]
    source: dict[str, Any]
    rows: int
    seconds: float
    skipped: tuple[SkippedItem, ...]
    is_last: bool
    versions: dict[str, str]


def write_shard(path: Path, table: pa.Table, record: ShardRecord) -> None:
    """Write a shard, whole or not at all; the same rows and record give the same bytes.

    Args:
        path (`Path`): its place.
        table (`pa.Table`): the rows, with the columns of `extract_units`.
        record (`ShardRecord`): what it says of itself.

    Raises:
        ConfigurationError: the disk is full, or refuses.
    """
    metadata = {**(table.schema.metadata or {}), _KEY: json.dumps(asdict(record), ensure_ascii=False).encode()}
    try:
        with atomic_path(path) as temporary:
            options = {"compression": "zstd", "write_page_checksum": True}
            with pq.ParquetWriter(temporary, table.schema.with_metadata(metadata), **options) as writer:
                # datasets refuses files whose first group of rows is empty, not files without a group.
                if table.num_rows:
                    writer.write_table(table.replace_schema_metadata(metadata))
    except OSError as error:
        raise ConfigurationError(
            f"the shard {path} cannot be written: {error.strerror or error}",
            hint="make room or mend the rights, then start the same command again: finished shards are kept",
        ) from error


def remove_leftovers(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Remove what killed processes left of files that they were writing.

    Files that were changed within the last hour stay: a process, also one of another run, may be writing them.

    Args:
        folder (`Path`): with the shards.
        is_ours (`Callable[[str], bool]`): whether a file of this name is one that a run of this corpus writes.
    """
    for path in folder.glob(".*"):
        # As `atomic_path` calls them: .NAME.RANDOM.SUFFIX
        name = path.name[1:].rsplit(".", 2)[0]
        try:
            if is_ours(name) and time.time() - path.stat().st_mtime > _SECONDS_OF_WRITING:
                path.unlink()
        except OSError:
            # Another process removed it, or it is another user's; it is in nobody's way.
            continue


def read_record(path: Path) -> ShardRecord:
    """What a shard says of itself; reads the end of the file only.

    Args:
        path (`Path`): the shard.

    Raises:
        FileNotFoundError: there is none.
        DamagedShardError: the file is cut or no Parquet.
        DatasetError: it is Parquet of another program.
    """
    try:
        with pq.ParquetFile(path) as file:
            metadata, rows = file.schema_arrow.metadata or {}, file.metadata.num_rows
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise DamagedShardError(f"{path} is damaged: {error}") from error
    try:
        values = json.loads(metadata[_KEY])
        skipped = tuple(SkippedItem(**skip) for skip in values.pop("skipped"))
        record = ShardRecord(**values, skipped=skipped)
        if record.rows != rows:
            raise ValueError(f"{rows} rows instead of {record.rows}")
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{path} is no shard of `speechprompt units`: it lacks the record, or the record is of another version",
            hint="move it away, or choose another output folder (--output)",
        ) from error
    return record


def check_shard(path: Path, fingerprint: Mapping[str, Any], source: Mapping[str, Any]) -> ShardRecord:
    """Read a shard from end to end.

    Args:
        path (`Path`): the shard.
        fingerprint (`Mapping`): of the processor that shall have made it.
        source (`Mapping`): the rows that it shall hold.

    Returns:
        `ShardRecord`.

    Raises:
        FileNotFoundError: there is none.
        DamagedShardError: the file is cut or corrupt.
        DatasetError: it is Parquet of another program.
        FingerprintMismatchError: another processor made it, or it holds other rows.
    """
    record = read_record(path)
    check_fingerprint(path, record, fingerprint)
    check_source(path, record, source)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            columns = file.read().column_names
    except (pa.ArrowException, OSError) as error:
        raise DamagedShardError(f"{path} is damaged: {error}") from error
    if has_prosody(fingerprint) and PROSODY_COLUMN not in columns:
        # As versions wrote them that left the second stream out.
        raise DamagedShardError(f"{path} is damaged: it lacks the column {PROSODY_COLUMN}")
    return record


def check_source(path: Path, record: ShardRecord, source: Mapping[str, Any]) -> None:
    """Refuse a shard of other rows.

    Args:
        path (`Path`): the shard.
        record (`ShardRecord`): what it says of itself.
        source (`Mapping`): the rows that it shall hold.

    Raises:
        FingerprintMismatchError: names what differs.
    """
    if record.source != source:
        differing = sorted(key for key in {*source, *record.source} if source.get(key) != record.source.get(key))
        there, wanted = ({key: side.get(key) for key in differing} for side in (record.source, source))
        raise FingerprintMismatchError(
            f"{path} holds other rows than this run wants: {there} there, {wanted} wanted",
            hint="give the same corpus and options, choose another output folder (--output), or remove the old shards",
        )


def has_prosody(fingerprint: Mapping[str, Any]) -> bool:
    """Whether a processor of this fingerprint makes prosody codes beside the units."""
    return fingerprint.get("streams_digest") is not None


def are_same_units(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    """Whether processors of these fingerprints make the same units, and the same second stream or none."""
    return all(left.get(key) == right.get(key) for key in ("digest", "streams_digest"))


def check_fingerprint(path: Path, record: ShardRecord, fingerprint: Mapping[str, Any]) -> None:
    """Refuse a shard of another processor.

    Args:
        path (`Path`): the shard.
        record (`ShardRecord`): what it says of itself.
        fingerprint (`Mapping`): of the processor that shall have made it.

    Raises:
        FingerprintMismatchError: names both.
    """
    if not are_same_units(record.fingerprint, fingerprint):
        with_prosody = has_prosody(record.fingerprint) or has_prosody(fingerprint)
        there, here = (_named(side, with_prosody=with_prosody) for side in (record.fingerprint, fingerprint))
        raise FingerprintMismatchError(
            f"the units in {path} were made by {there}, this run makes those of {here}",
            hint="give the base (--base) whose processor made them, choose another output folder (--output), or "
            "remove the old shards",
        )


def _named(fingerprint: Mapping[str, Any], *, with_prosody: bool) -> str:
    streams = fingerprint.get("streams_digest")
    beside = f", with prosody {streams[:16]}" if streams else ", without prosody" if with_prosody else ""
    return f"{fingerprint.get('encoder_id', 'an encoder')} ({str(fingerprint.get('digest'))[:16]}{beside})"
