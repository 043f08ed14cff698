"""Units on disk, found again by the content of the recording and the identity of the processor."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from ..core.errors import ConfigurationError
from ..core.units import UnitSequence

__all__ = ["UnitStore", "default_cache_dir"]

CACHE_VARIABLE = "SPEECHPROMPT_CACHE"
"""Environment variable that names the folder of all caches."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS units (content TEXT PRIMARY KEY, units BLOB NOT NULL, durations BLOB NOT NULL);
"""
_PROSODY_SCHEMA = """
CREATE TABLE IF NOT EXISTS prosody (content TEXT PRIMARY KEY, codes BLOB NOT NULL);
"""
# SQLite allows 999 placeholders in its oldest builds.
_QUERY_ROWS = 900


def default_cache_dir() -> Path:
    """The folder in `SPEECHPROMPT_CACHE`, else `~/.cache/speechprompt_hf`."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "speechprompt_hf"


class UnitStore:
    """One SQLite file a processor: content hash → units.

    Several processes may read and write at once; what `put` was given is on disk when it returns, so that a killed
    run loses only the batch it was working on.

    Args:
        fingerprint_digest (`str`): `processor.fingerprint["digest"]`; of a processor with a second stream its
            `"streams_digest"`.
        cache_dir (`str | Path`, *optional*): folder of all stores, `default_cache_dir()` by default.
        with_prosody (`bool`, *optional*, defaults to `False`): keep prosody codes too; rows without them are as good
            as absent.

    Raises:
        ConfigurationError: the folder cannot be written.
    """

    def __init__(
        self,
        fingerprint_digest: str,
        cache_dir: str | os.PathLike[str] | None = None,
        *,
        with_prosody: bool = False,
    ) -> None:
        self._with_prosody = with_prosody
        folder = Path(cache_dir) if cache_dir is not None else default_cache_dir()
        self.path = folder / "units" / f"{fingerprint_digest[:32]}.sqlite"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._open() as connection:
                connection.executescript(_SCHEMA + _PROSODY_SCHEMA if with_prosody else _SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(
                f"the unit cache {self.path} cannot be opened: {error}",
                hint=f"name a writable folder with cache_dir or {CACHE_VARIABLE}",
            ) from error

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # A minute of patience for other writers; a write is one short transaction.
        with closing(sqlite3.connect(self.path, timeout=60.0)) as connection, connection:
            yield connection

    def get(self, contents: Iterable[str]) -> dict[str, UnitSequence]:
        """The units of those content hashes that are stored."""
        wanted = list(dict.fromkeys(contents))
        found: dict[str, UnitSequence] = {}
        with self._open() as connection:
            for start in range(0, len(wanted), _QUERY_ROWS):
                part = wanted[start : start + _QUERY_ROWS]
                marks = ",".join("?" * len(part))
                if self._with_prosody:
                    columns, table = "content, units, durations, codes", "units JOIN prosody USING (content)"
                else:
                    columns, table = "content, units, durations", "units"
                query = f"SELECT {columns} FROM {table} WHERE content IN ({marks})"
                for content, *blobs in connection.execute(query, part):
                    found[content] = UnitSequence(*map(_from_blob, blobs))
        return found

    def put(self, units: Mapping[str, UnitSequence]) -> None:
        """Store units in one transaction."""
        rows = [(key, _to_blob(value.units), _to_blob(value.durations)) for key, value in units.items()]
        with self._open() as connection:
            connection.executemany("INSERT OR REPLACE INTO units VALUES (?, ?, ?)", rows)
            if self._with_prosody:
                codes = [(key, _to_blob(value.prosody)) for key, value in units.items() if value.prosody is not None]
                connection.executemany("INSERT OR REPLACE INTO prosody VALUES (?, ?)", codes)

    def __len__(self) -> int:
        with self._open() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM units").fetchone()[0])


def _to_blob(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, dtype="<i4").tobytes()


def _from_blob(blob: bytes) -> np.ndarray:
    return np.frombuffer(blob, dtype="<i4").astype(np.int64)
