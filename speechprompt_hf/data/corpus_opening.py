"""Where streams come from: Parquet files here, data sets on the Hub."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import IterableDataset, IterableDatasetDict, load_dataset

from ..core.errors import DatasetError
from .corpus_stream import Stream
from .hub_reading import reading_from_the_hub
from .sources import canonical_split, table_files

__all__ = ["open_streams"]

_POOL = "pool"
_METADATA = ("metadata.csv", "metadata.jsonl")

Part = TypeVar("Part")


def open_streams(source: str | os.PathLike[str]) -> dict[str, Stream] | None:
    """A corpus to be read as it comes, by part.

    Args:
        source (`str | PathLike`): a Parquet file, a folder of them, or a Hub id.

    Returns:
        `dict[str, Stream] | None`: the one key `"pool"` where there are no parts; `None` where recordings are files of
        their own, of which only the names are held in memory anyway.

    Raises:
        DatasetError: there is nothing to read, or no way to read it as a stream.
    """
    text = os.fspath(source)
    path = Path(text).expanduser()
    if path.is_dir() or path.is_file():
        parts = _local_parts(path)
        root = path if path.is_dir() else path.parent
        return {name: _local_stream(files, root, of_many=len(parts) > 1) for name, files in parts.items()} or None
    if path.is_absolute() or text.startswith((".", "~")) or text.count("/") > 1 or path.suffix:
        return None
    return _hub_streams(text)


def _local_parts(path: Path) -> dict[str, list[Path]]:
    if path.is_file():
        return {_POOL: [path]} if path.suffix == ".parquet" else {}
    if any((path / name).is_file() for name in _METADATA):
        return {}
    folders = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and canonical_split(folder.name)]
    by_folder = {folder.name: [file for files in table_files(folder).values() for file in files] for folder in folders}
    if any(canonical_split(name) == "train" for name in by_folder):
        return _canonical(by_folder) if all(by_folder.values()) else {}
    by_name = table_files(path)
    if "train" in by_name:
        # Files of other names, such as noise.parquet beside train.parquet, are no part of the splits.
        by_name.pop(_POOL, None)
        return _canonical(by_name)
    files = [file for part in by_name.values() for file in part]
    return {_POOL: sorted(files)} if files else {}


def _canonical(parts: Mapping[str, Part]) -> dict[str, Part]:
    """Parts by our names; a data set of one part has no parts."""
    if len(parts) == 1:
        return {_POOL: next(iter(parts.values()))}
    named: dict[str, Part] = {}
    for name, part in parts.items():
        canonical = canonical_split(name)
        if canonical in named:
            raise DatasetError(f"two parts mean {canonical}, one of them {name!r}", hint="rename one, or join the two")
        if canonical is not None:
            named[canonical] = part
    if not named:
        raise DatasetError(f"the splits are called {sorted(parts)}", hint="call them train, validation and test")
    return {_POOL: named["train"]} if set(named) == {"train"} else named


def _local_stream(files: Iterable[Path], root: Path, *, of_many: bool) -> Stream:
    paths = list(files)
    told = [_describe(path) for path in paths]
    rows = load_dataset("parquet", data_files=[str(path) for path in paths], split="train", streaming=True)
    if not of_many and "split" in (rows.features or ()):
        raise DatasetError(
            f"the rows of {paths[0]} tell their part by a column 'split', which a stream cannot follow",
            hint="read it without streaming (leave --streaming out), or write one file a part",
        )
    return _counted(Stream(rows, tuple(told), root), str(root))


def _describe(path: Path) -> dict[str, Any]:
    try:
        with pq.ParquetFile(path) as file:
            return {"name": path.name, "bytes": path.stat().st_size, "rows": file.metadata.num_rows}
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path} cannot be read as Parquet: {error}") from error


def _hub_streams(name: str) -> dict[str, Stream]:
    from huggingface_hub import HfApi

    with reading_from_the_hub(name, is_stream=True):
        # All processes, and a run that goes on tomorrow, must read the same rows.
        revision = HfApi().dataset_info(name).sha
        loaded = load_dataset(name, revision=revision, streaming=True)
    parts = _canonical(loaded if isinstance(loaded, IterableDatasetDict) else {_POOL: loaded})
    return {part: _hub_stream(rows, name, revision) for part, rows in parts.items()}


def _hub_stream(rows: IterableDataset, name: str, revision: str | None) -> Stream:
    told = {"dataset": name, "revision": revision, "split": str(rows.split), "of": rows.num_shards}
    return Stream(rows, tuple({**told, "file": file} for file in range(rows.num_shards)))


def _counted(stream: Stream, source: str) -> Stream:
    if stream.rows.num_shards != len(stream.files):
        raise DatasetError(
            f"{source} is a stream of {stream.rows.num_shards} files, but {len(stream.files)} were found",
            hint="read it without streaming (leave --streaming out)",
        )
    return stream
