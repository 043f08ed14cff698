"""Where labelled recordings or units come from: folders, tables, Parquet, the Hub."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Audio, Dataset, DatasetDict, Features, Value, load_dataset
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from pyarrow.parquet import ParquetFile

from ..core.errors import DatasetError
from .hub_reading import reading_from_the_hub

__all__ = ["AUDIO_SUFFIXES", "SPLIT_NAMES", "Source", "read_source", "rooted", "table_files"]

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
"""File name endings that are taken for recordings; all are read by libsndfile."""

UNREAD_SUFFIXES = (".m4a", ".aac", ".mp4", ".wma", ".amr", ".3gp", ".webm", ".caf")
"""File name endings of recordings that libsndfile does not read."""

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval"),
}
"""Our split names and how folders, files and data sets spell them."""

_POOL = "pool"
_FILE_COLUMNS = ("file_name", "file", "path", "audio")
# <speaker>_nohash_<take>.wav: how the Speech Commands sets name their files.
_NOHASH = re.compile(r"^(?P<speaker>[^_]+)_nohash_")

AUDIO_FEATURE = {"bytes": Value("binary"), "path": Value("string")}


class Source(NamedTuple):
    """What was read.

    Attributes:
        tables (`dict[str, Dataset]`): rows by split; the one key `"pool"` where there are no splits.
        root (`Path | None`): the folder that relative paths start from.
        notes (`tuple[str, ...]`): what was left out.
    """

    tables: dict[str, Dataset]
    root: Path | None
    notes: tuple[str, ...] = ()


def canonical_split(name: str) -> str | None:
    """`train`, `validation` or `test` for any known spelling, else `None`."""
    for canonical, spellings in SPLIT_NAMES.items():
        if name.lower() in spellings:
            return canonical
    return None


def read_source(
    source: str | os.PathLike[str], *, config_name: str | None = None, revision: str | None = None
) -> Source:
    """Read a data set as it is, without looking at labels.

    Args:
        source (`str | PathLike`): folder, Parquet, CSV or JSON-lines file, or Hub id.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): branch, tag or commit of a Hub data set.

    Returns:
        `Source`.

    Raises:
        DatasetError: there is nothing to read, or two splits have the same meaning.
    """
    text = os.fspath(source)
    path = Path(text).expanduser()
    notes: list[str] = []
    if path.is_dir():
        return Source(_read_folder(path, notes), path, tuple(notes))
    if path.is_file():
        return Source(_read_file(path), path.parent)
    if path.is_absolute() or text.startswith((".", "~")) or text.count("/") > 1 or path.suffix:
        raise DatasetError(f"there is no folder or file {text!r}", hint="give a folder of recordings or a Hub id")
    return Source(_read_hub(text, config_name, revision, notes), None, tuple(notes))


def rooted(table: Dataset, root: Path | None) -> Dataset:
    """The same rows, with paths in a text column `audio` starting from `root`."""
    feature = table.features.get("audio")
    if root is None or not isinstance(feature, Value) or feature.dtype not in ("string", "large_string"):
        return table
    paths = [str(root / path) for path in table["audio"]]
    rest = table.remove_columns("audio")
    if not rest.column_names:
        return Dataset.from_dict({"audio": paths})
    return rest.add_column("audio", paths, feature=feature)


def _read_hub(name: str, config_name: str | None, revision: str | None, notes: list[str]) -> dict[str, Dataset]:
    with reading_from_the_hub(name, revision=revision):
        loaded = load_dataset(name, config_name, revision=revision)
    if not isinstance(loaded, DatasetDict):
        return {_POOL: loaded}
    return _with_canonical_names({str(name): table for name, table in loaded.items()}, notes)


def _spellings(names: Iterable[str], notes: list[str]) -> dict[str, str]:
    """Our name of each split → how it is called; others are noted.

    Raises:
        DatasetError: two names mean the same split.
    """
    found: dict[str, str] = {}
    others: list[str] = []
    for name in names:
        canonical = canonical_split(name)
        if canonical is None:
            others.append(name)
        elif canonical in found:
            raise DatasetError(
                f"{found[canonical]!r} and {name!r} both mean {canonical}", hint="rename one, or join the two"
            )
        else:
            found[canonical] = name
    if found and others:
        notes.append(f"left out, because they are no train, validation or test part: {', '.join(sorted(others))}")
    return found


def _with_canonical_names(tables: dict[str, Dataset], notes: list[str]) -> dict[str, Dataset]:
    named = {canonical: tables[name] for canonical, name in _spellings(tables, notes).items()}
    if not named:
        if len(tables) == 1:
            return {_POOL: next(iter(tables.values()))}
        raise DatasetError(
            f"the splits are called {sorted(map(str, tables))}", hint="call them train, validation and test"
        )
    return {_POOL: named["train"]} if set(named) == {"train"} else named


def _visible(paths: Iterable[Path]) -> list[Path]:
    """In order, without hidden files and the noise that the Speech Commands sets bring; `_unknown_` is a label."""
    return sorted(path for path in paths if not path.name.startswith(".") and path.name != "_background_noise_")


def _read_folder(folder: Path, notes: list[str]) -> dict[str, Dataset]:
    # As in the audiofolder of datasets: metadata beside train/ speaks for everything below.
    metadata = [folder / name for name in ("metadata.csv", "metadata.jsonl") if (folder / name).is_file()]
    if metadata:
        dataset = _read_metadata(metadata[0])
        return _split_by_column(dataset, _top_folders(dataset, folder))
    folders = [path.name for path in _visible(folder.iterdir()) if path.is_dir()]
    if any(canonical_split(name) == "train" for name in folders):
        parts = {name: _read_unsplit_folder(folder / name, notes) for name in _spellings(folders, notes).values()}
        return _with_canonical_names(parts, notes)
    parquet = [path for path in _visible(folder.iterdir()) if path.suffix == ".parquet"]
    if parquet:
        return _read_parquet_folder(parquet, notes)
    return {_POOL: _read_unsplit_folder(folder, notes)}


def _read_unsplit_folder(folder: Path, notes: list[str]) -> Dataset:
    metadata = [folder / name for name in ("metadata.csv", "metadata.jsonl") if (folder / name).is_file()]
    if metadata:
        return _read_metadata(metadata[0])
    parquet = [path for path in _visible(folder.iterdir()) if path.suffix == ".parquet"]
    if parquet:
        return _read_parquet(parquet)
    return _read_label_folders(folder, notes)


def _read_label_folders(folder: Path, notes: list[str]) -> Dataset:
    files: list[Path] = []
    labels: list[str] = []
    for label_folder in _visible(path for path in folder.iterdir() if path.is_dir()):
        found = _visible(path for path in label_folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
        files += found
        labels += [label_folder.name] * len(found)
        unread = [path.name for path in _visible(label_folder.rglob("*")) if path.suffix.lower() in UNREAD_SUFFIXES]
        if unread:
            notes.append(f"{len(unread)} file(s) in {label_folder} left out, first {unread[0]!r}: convert them to wav")
    if not files:
        foreign = [path for path in _visible(folder.rglob("*")) if path.suffix.lower() in UNREAD_SUFFIXES]
        others = f", but {len(foreign)} file(s) of a kind that is not read, first {foreign[0]}" if foreign else ""
        raise DatasetError(
            f"{folder} holds no recordings in sub-folders{others}",
            hint="put them into one sub-folder a label, or add metadata.csv with the columns file_name and label; "
            f"read are {', '.join(AUDIO_SUFFIXES)}",
        )
    columns: dict[str, Any] = {"audio": [{"bytes": None, "path": str(path)} for path in files], "label": labels}
    features: dict[str, Any] = {"audio": AUDIO_FEATURE, "label": Value("string")}
    matches = [_NOHASH.match(path.name) for path in files]
    if all(matches):
        columns["speaker"] = [match["speaker"] for match in matches if match]
        features["speaker"] = Value("string")
    return Dataset.from_dict(columns, features=Features(features))


def _metadata_rows(path: Path) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8-sig", newline="") as stream:
        if path.suffix == ".csv":
            return [dict(row) for row in csv.DictReader(stream)]
        try:
            return [json.loads(line) for line in stream if line.strip()]
        except json.JSONDecodeError as error:
            raise DatasetError(f"{path} is not JSON lines: {error}", hint="one JSON object a line") from error


def _read_metadata(path: Path) -> Dataset:
    rows = _metadata_rows(path)
    if not rows:
        raise DatasetError(f"{path} has no rows")
    columns = list(rows[0])
    file_column = next((name for name in _FILE_COLUMNS if name in columns), None)
    if file_column is None and "units" not in columns:
        raise DatasetError(f"{path} has the columns {columns}", hint="name the column of file names file_name")
    for number, row in enumerate(rows, start=1):
        if set(row) != set(columns):
            raise DatasetError(f"row {number} of {path} has the fields {list(row)}, the first row has {columns}")
    table: dict[str, Any] = {name: [row[name] for row in rows] for name in columns if name != file_column}
    if file_column is not None:
        files = [path.parent / str(row[file_column]) for row in rows]
        missing = [str(file) for file in files if not file.is_file()]
        if missing:
            raise DatasetError(
                f"{path} names {len(missing)} file(s) that do not exist, first {missing[0]!r}",
                hint="file names are relative to the folder of the metadata file",
            )
        table["audio"] = [{"bytes": None, "path": str(file)} for file in files]
    dataset = Dataset.from_dict(table)
    return dataset.cast_column("audio", AUDIO_FEATURE) if file_column is not None else dataset


def _top_folders(dataset: Dataset, folder: Path) -> list[str]:
    """The sub-folder of `folder` that each recording lies in."""
    if "audio" not in dataset.column_names:
        return []
    paths = [os.path.relpath(audio["path"], folder) for audio in dataset["audio"]]
    return [Path(path).parts[0] for path in paths]


def _split_by_column(dataset: Dataset, values: Iterable[Any] = ()) -> dict[str, Dataset]:
    """Honour a column `split`, or else `values`, if all are known split names and more than one."""
    if "split" in dataset.column_names:
        values = dataset["split"]
    names = [canonical_split(str(value)) for value in values]
    if None in names or len(set(names)) < 2 or "train" not in names:
        return {_POOL: dataset}
    return {
        str(name): dataset.select([index for index, value in enumerate(names) if value == name])
        for name in dict.fromkeys(names)
    }


def table_files(folder: Path) -> dict[str, list[Path]]:
    """The Parquet files of a folder by split, from names such as `train.parquet` or `test-00000-of-00002.parquet`."""
    return _files_by_split(path for path in _visible(folder.iterdir()) if path.suffix == ".parquet")


def _files_by_split(files: Iterable[Path]) -> dict[str, list[Path]]:
    by_split: dict[str, list[Path]] = {}
    for file in files:
        name = canonical_split(re.split(r"[-_.]", file.name)[0]) or _POOL
        by_split.setdefault(name, []).append(file)
    return by_split


def _read_parquet_folder(files: list[Path], notes: list[str]) -> dict[str, Dataset]:
    by_split = _files_by_split(files)
    if "train" in by_split:
        # Files of other names, such as noise.parquet beside train.parquet, are no part of the splits.
        others = by_split.pop(_POOL, [])
        if others:
            names = ", ".join(file.name for file in others)
            notes.append(f"left out, because they are no train, validation or test part: {names}")
        tables = {name: _read_parquet(paths) for name, paths in by_split.items()}
        return _with_canonical_names(tables, notes)
    return _split_by_column(_read_parquet(files))


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar for what takes less than a second."""
    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()


def _read_parquet(files: list[Path]) -> Dataset:
    try:
        if not any(ParquetFile(file).metadata.num_rows for file in files):
            raise DatasetError(f"{files[0]} is empty")
        with _quiet():
            dataset = Dataset.from_parquet([str(file) for file in files])
    except DatasetError:
        raise
    except Exception as error:  # pyarrow and datasets wrap their errors in several layers
        raise DatasetError(f"{files[0]} cannot be read as Parquet: {error}") from error
    for name, feature in dataset.features.items():
        if isinstance(feature, Audio):
            dataset = dataset.cast_column(name, Audio(decode=False))
    return dataset


def _read_file(path: Path) -> dict[str, Dataset]:
    if path.suffix == ".parquet":
        return _split_by_column(_read_parquet([path]))
    if path.suffix in (".csv", ".jsonl"):
        return _split_by_column(_read_metadata(path))
    raise DatasetError(f"{path} is no data set", hint="give a folder, or a .parquet, .csv or .jsonl file")
