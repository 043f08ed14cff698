"""Shards on disk: Parquet files that say what they hold and what made them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..core.errors import ConfigurationError, DatasetError, FingerprintMismatchError
from ..core.files import atomic_path
from .extraction import SkippedItem

__all__ = ["DamagedShardError", "ShardRecord", "check_fingerprint", "check_shard", "read_record", "write_shard"]

_KEY = b"speechprompt_shard"


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
        path (`Path`): its place; what a killed process left beside it is removed.
        table (`pa.Table`): the rows, with the columns of `extract_units`.
        record (`ShardRecord`): what it says of itself.

    Raises:
        ConfigurationError: the disk is full, or refuses.
    """
    metadata = {**(table.schema.metadata or {}), _KEY: json.dumps(asdict(record), ensure_ascii=False).encode()}
    try:
        for leftover in path.parent.glob(f".{path.name}.*"):
            leftover.unlink(missing_ok=True)
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
    if record.source != source:
        differing = sorted(key for key in {*source, *record.source} if source.get(key) != record.source.get(key))
        there, wanted = ({key: side.get(key) for key in differing} for side in (record.source, source))
        raise FingerprintMismatchError(
            f"{path} holds other rows than this run wants: {there} there, {wanted} wanted",
            hint="give the same corpus and options, choose another output folder (--output), or remove the old shards",
        )
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            file.read()
    except (pa.ArrowException, OSError) as error:
        raise DamagedShardError(f"{path} is damaged: {error}") from error
    return record


def check_fingerprint(path: Path, record: ShardRecord, fingerprint: Mapping[str, Any]) -> None:
    """Refuse a shard of another processor.

    Args:
        path (`Path`): the shard.
        record (`ShardRecord`): what it says of itself.
        fingerprint (`Mapping`): of the processor that shall have made it.

    Raises:
        FingerprintMismatchError: names both.
    """
    if record.fingerprint.get("digest") != fingerprint["digest"]:
        raise FingerprintMismatchError(
            f"the units in {path} were made by {record.fingerprint.get('encoder_id', 'an encoder')} "
            f"({str(record.fingerprint.get('digest'))[:16]}), this run makes those of "
            f"{fingerprint.get('encoder_id', 'an encoder')} ({fingerprint['digest'][:16]})",
            hint="give the base (--base) whose processor made them, choose another output folder (--output), or "
            "remove the old shards",
        )
