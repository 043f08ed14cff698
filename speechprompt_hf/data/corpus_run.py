"""A corpus to shards of units: what one of several processes does, and the summary that the last of them writes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ..core.errors import DatasetError
from ..core.files import read_json, write_json, write_text
from ..core.versions import package_versions
from .corpus_encoding import encode_rows, unit_features
from .corpus_files import (
    DamagedShardError,
    ShardRecord,
    are_same_units,
    check_fingerprint,
    check_shard,
    has_prosody,
    read_record,
    remove_leftovers,
    write_shard,
)
from .corpus_shards import World, shard_order
from .corpus_tables import FindShard, ShardJob
from .unit_identity import UNITS_SUMMARY

__all__ = ["Corpus", "CorpusProgress", "run_corpus"]

_SKIPPED = "skipped.jsonl"
_VERSIONS = ("speechprompt-hf", "torch", "transformers", "datasets", "pyarrow", "soundfile", "soxr")


class Corpus(Protocol):
    """What shards are made of: `TableCorpus` or `StreamCorpus`."""

    plan: dict[str, Any]
    parts: tuple[str, ...]

    def owns_name(self, name: str) -> bool:
        """Whether a file name is that of one of its shards."""

    def num_rows(self, world: World) -> int | None:
        """Rows of one process, if they are known before they are read."""

    def jobs(self, world: World, find: FindShard) -> Iterator[ShardJob]:
        """The shards of one process that are still to be made."""

    def missing(self, records: Mapping[str, ShardRecord]) -> tuple[str, ...]:
        """Names of shards that are not there yet, as far as they are known."""

    def source(self, name: str) -> dict[str, Any]:
        """The rows of a shard, as its record shall say them."""

    def check(self, folder: Path, records: Mapping[str, ShardRecord]) -> None:
        """Refuse shards of other rows, as far as that is known without reading the corpus."""


@dataclass
class CorpusProgress:
    """What one process has done in this run; shards that were there do not count.

    Attributes:
        shards (`int`, defaults to 0): made.
        found (`int`, defaults to 0): whole ones of an earlier run, left as they were.
        recordings (`int`, defaults to 0): encoded.
        seconds (`float`, defaults to 0.0): of sound encoded.
        elapsed (`float`, defaults to 0.0): seconds since the first shard was begun.
    """

    shards: int = 0
    found: int = 0
    recordings: int = 0
    seconds: float = 0.0
    elapsed: float = 0.0

    @property
    def hours_per_hour(self) -> float:
        """Hours of sound in an hour of work, 0 before anything is encoded."""
        return self.seconds / self.elapsed if self.elapsed > 0 else 0.0


def run_corpus(
    corpus: Corpus,
    processor: Any,
    output: Path,
    *,
    base: str,
    world: World | None = None,
    on_progress: Callable[[CorpusProgress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> tuple[CorpusProgress, dict[str, Any] | None]:
    """Make this process's shards, and with the last one of all the summary.

    A shard that is there and whole is not made again. A process that is killed loses the shard that it was working on.
    No process waits for another one, and none writes what another one writes, except the summary, which is the same
    whoever writes it; before, that process reads the shards of the others from end to end.

    Args:
        corpus (`Corpus`): the rows.
        processor (`SpeechUnitProcessor`): makes the units.
        output (`Path`): folder of the shards, of `units.json` and `skipped.jsonl`.
        base (`str`): what the summary calls the processor's origin.
        world (`World`, *optional*): the processes; this one alone by default.
        on_progress (`Callable`, *optional*): called after each batch and each shard.
        on_note (`Callable[[str], None]`, *optional*): gets remarks to the user.

    Returns:
        `tuple[CorpusProgress, dict | None]`: what this process did, and the summary if no shard is missing.

    Raises:
        FingerprintMismatchError: a shard of another processor or of other rows is there.
        DatasetError: the folder holds Parquet files that are not of this run, or shards behind the end of a file, or
            not one recording can be used.
        ConfigurationError: a shard cannot be written.
    """
    world = world or World()
    progress, say = CorpusProgress(), on_note or (lambda text: None)
    folder = _Folder(output, corpus, processor.fingerprint, base, say)
    folder.prepare()
    if hasattr(processor, "unit_encoder"):
        # A wrong or missing encoder is an error of the run, not of its first recordings.
        processor.unit_encoder.load()

    def find(name: str, source: dict[str, Any]) -> ShardRecord | None:
        record = folder.whole(name, source, "it is made again")
        progress.found = len(folder.known)
        return record

    versions = package_versions(_VERSIONS)
    started = time.monotonic()

    def advance(recordings: int, seconds: float) -> None:
        progress.recordings += recordings
        progress.seconds += seconds
        progress.elapsed = time.monotonic() - started
        if on_progress is not None:
            on_progress(progress)

    for job in corpus.jobs(world, find):
        started = started if progress.elapsed else time.monotonic()
        folder.made[job.name] = _make(job, processor, output, versions, advance)
        progress.shards += 1
        advance(0, 0.0)
    return progress, folder.summarize()


def _make(
    job: ShardJob, processor: Any, output: Path, versions: dict[str, str], advance: Callable[[int, float], None]
) -> ShardRecord:
    encoded = encode_rows(job.rows, processor, advance)
    record = ShardRecord(
        fingerprint=processor.fingerprint,
        source=job.source,
        rows=len(encoded.rows),
        seconds=round(encoded.seconds, 3),
        skipped=tuple(encoded.skips),
        is_last=job.is_last(),
        versions=versions,
    )
    features = unit_features(job.features, with_prosody=has_prosody(processor.fingerprint))
    write_shard(output / job.name, encoded.table(features), record)
    return record


class _Folder:
    """The shards that are there, and `units.json`, as one process sees them.

    Args:
        path (`Path`): where they are.
        corpus (`Corpus`): what they shall hold.
        fingerprint (`Mapping`): of the processor that shall have made them.
        base (`str`): what the summary calls the processor's origin.
        say (`Callable[[str], None]`): gets remarks to the user.
    """

    def __init__(
        self, path: Path, corpus: Corpus, fingerprint: Mapping[str, Any], base: str, say: Callable[[str], None]
    ) -> None:
        self.path, self.corpus, self.fingerprint, self.base, self.say = path, corpus, fingerprint, base, say
        # Read from end to end, or written, by this process.
        self.known: dict[str, ShardRecord] = {}
        self.made: dict[str, ShardRecord] = {}

    def prepare(self) -> None:
        """Before anything is encoded: what is read along with the shards must be of this run, or is refused."""
        remove_leftovers(self.path, lambda name: name in (UNITS_SUMMARY, _SKIPPED) or self.corpus.owns_name(name))
        for path in _parquet_files(self.path):
            if not self.corpus.owns_name(path.name):
                raise DatasetError(
                    f"{path} is no shard of this run, whose plan is {self.corpus.plan}",
                    hint="give the options of the earlier run, choose another output folder (--output), or remove the "
                    "old files",
                )
        if self.corpus.missing(self._records()) or not self._there():
            self._announce()

    def whole(self, name: str, source: dict[str, Any], what_next: str) -> ShardRecord | None:
        """The record of a shard that is there and whole; of a damaged one it is said what happens next."""
        if name in self.known:
            return self.known[name]
        try:
            self.known[name] = check_shard(self.path / name, self.fingerprint, source)
        except FileNotFoundError:
            return None
        except DamagedShardError as error:
            self.say(f"{Exception.__str__(error)}: {what_next}")
            self._announce()
            return None
        return self.known[name]

    def summarize(self) -> dict[str, Any] | None:
        """Write the summary, if every shard of every process is there and whole."""
        records = self._records()
        if self.corpus.missing(records):
            return None
        foreign = [name for name in records if name not in self.made and name not in self.known]
        again = "its process makes it again; if that has ended, start the command again"
        # All of them, so that every damaged one is named.
        if None in [self.whole(name, self.corpus.source(name), again) for name in foreign]:
            return None
        summary, skipped = _summary(records, self.corpus, self.fingerprint, self.base)
        write_text(self.path / _SKIPPED, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in skipped))
        write_json(self.path / UNITS_SUMMARY, summary)
        return summary

    def _records(self) -> dict[str, ShardRecord]:
        records = {}
        for path in _parquet_files(self.path):
            try:
                records[path.name] = read_record(path)
            except (FileNotFoundError, DamagedShardError):
                continue
            check_fingerprint(path, records[path.name], self.fingerprint)
        self.corpus.check(self.path, records)
        return records

    def _there(self) -> dict[str, Any]:
        """`units.json`, if it is about these shards."""
        path = self.path / UNITS_SUMMARY
        there = read_json(path) if path.is_file() else {}
        is_ours = there.get("plan") == self.corpus.plan and are_same_units(
            there.get("fingerprint", {}), self.fingerprint
        )
        return there if is_ours else {}

    def _announce(self) -> None:
        """Say from the first shard on whose units they are, and that some are missing."""
        if self._there().get("complete") is not False:
            summary = {"base": self.base, "fingerprint": dict(self.fingerprint), "plan": self.corpus.plan}
            write_json(self.path / UNITS_SUMMARY, {**summary, "complete": False})


def _parquet_files(folder: Path) -> list[Path]:
    paths = (path for path in folder.glob("*.parquet") if not path.name.startswith("."))
    return sorted(paths, key=lambda path: shard_order(path.name))


def _summary(
    records: Mapping[str, ShardRecord], corpus: Corpus, fingerprint: Mapping[str, Any], base: str
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The summary of all shards, and the recordings that they left out."""
    of_part = {part: [record for record in records.values() if record.source["part"] == part] for part in corpus.parts}
    skipped = [
        {"part": part, **asdict(skip)} for part in corpus.parts for record in of_part[part] for skip in record.skipped
    ]
    if not any(record.rows for record in records.values()):
        first = f", first {skipped[0]['item']!r}: {skipped[0]['message']}" if skipped else ""
        raise DatasetError(f"not one of {len(skipped)} recordings can be used{first}")
    parts = {
        part: {
            "recordings": sum(record.rows for record in of_part[part]),
            "skipped": sum(len(record.skipped) for record in of_part[part]),
            "hours": round(sum(record.seconds for record in of_part[part]) / 3600, 4),
        }
        for part in corpus.parts
    }
    shards = [
        {"name": name, "recordings": record.rows, "skipped": len(record.skipped), "seconds": record.seconds}
        for name, record in records.items()
    ]
    fixed = {"base": base, "fingerprint": dict(fingerprint)}
    return {**fixed, "parts": parts, "plan": corpus.plan, "shards": shards, "complete": True}, skipped
