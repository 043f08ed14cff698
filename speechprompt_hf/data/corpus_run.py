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
    check_fingerprint,
    check_shard,
    read_record,
    write_shard,
)
from .corpus_shards import World
from .corpus_tables import FindShard, ShardJob
from .unit_identity import UNITS_SUMMARY

__all__ = ["Corpus", "CorpusProgress", "run_corpus"]

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
    whoever writes it.

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
        DatasetError: the folder holds Parquet files that are not of this run, or not one recording can be used.
        ConfigurationError: a shard cannot be written.
    """
    world = world or World()
    progress, say = CorpusProgress(), on_note or (lambda text: None)
    _check_folder(output, corpus, processor.fingerprint)
    _announce(output, corpus, processor.fingerprint, base)
    if hasattr(processor, "unit_encoder"):
        # A wrong or missing encoder is an error of the run, not of its first recordings.
        processor.unit_encoder.load()

    found: dict[str, ShardRecord] = {}

    def find(name: str, source: dict[str, Any]) -> ShardRecord | None:
        if name not in found:
            try:
                found[name] = check_shard(output / name, processor.fingerprint, source)
            except FileNotFoundError:
                return None
            except DamagedShardError as error:
                say(f"{Exception.__str__(error)}: it is made again")
                return None
        progress.found = len(found)
        return found[name]

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
        _make(job, processor, output, versions, advance)
        progress.shards += 1
        advance(0, 0.0)
    return progress, _summarize(output, corpus, processor.fingerprint, base)


def _make(
    job: ShardJob, processor: Any, output: Path, versions: dict[str, str], advance: Callable[[int, float], None]
) -> None:
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
    write_shard(output / job.name, encoded.table(unit_features(job.features)), record)


def _parquet_files(output: Path) -> list[Path]:
    return sorted(path for path in output.glob("*.parquet") if not path.name.startswith("."))


def _check_folder(output: Path, corpus: Corpus, fingerprint: Mapping[str, Any]) -> None:
    """Before anything is encoded: what is read along with the shards must be of this run."""
    for path in _parquet_files(output):
        if not corpus.owns_name(path.name):
            raise DatasetError(
                f"{path} is no shard of this run, whose plan is {corpus.plan}",
                hint="give the options of the earlier run, choose another output folder (--output), or remove the old "
                "files",
            )
        try:
            check_fingerprint(path, read_record(path), fingerprint)
        except (FileNotFoundError, DamagedShardError):
            continue


def _announce(output: Path, corpus: Corpus, fingerprint: Mapping[str, Any], base: str) -> None:
    """Say from the first shard on whose units they are, and that some are missing."""
    path = output / UNITS_SUMMARY
    there = read_json(path) if path.is_file() else {}
    if there.get("plan") == corpus.plan and there.get("fingerprint", {}).get("digest") == fingerprint["digest"]:
        return
    write_json(path, {"base": base, "fingerprint": dict(fingerprint), "plan": corpus.plan, "complete": False})


def _records(output: Path) -> dict[str, ShardRecord]:
    records = {}
    for path in _parquet_files(output):
        try:
            records[path.name] = read_record(path)
        except DamagedShardError:
            continue
    return records


def _summarize(output: Path, corpus: Corpus, fingerprint: Mapping[str, Any], base: str) -> dict[str, Any] | None:
    records = _records(output)
    if corpus.missing(records):
        return None
    of_part = {part: [record for record in records.values() if record.source["part"] == part] for part in corpus.parts}
    skipped = [
        {"part": part, **asdict(skip)} for part in corpus.parts for record in of_part[part] for skip in record.skipped
    ]
    if not any(record.rows for record in records.values()):
        first = f", first {skipped[0]['item']!r}: {skipped[0]['message']}" if skipped else ""
        raise DatasetError(f"not one of {len(skipped)} recordings can be used{first}")
    write_text(output / "skipped.jsonl", "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in skipped))
    summary = {
        "base": base,
        "fingerprint": dict(fingerprint),
        "parts": {
            part: {
                "recordings": sum(record.rows for record in of_part[part]),
                "skipped": sum(len(record.skipped) for record in of_part[part]),
                "hours": round(sum(record.seconds for record in of_part[part]) / 3600, 4),
            }
            for part in corpus.parts
        },
        "plan": corpus.plan,
        "shards": [
            {"name": name, "recordings": record.rows, "skipped": len(record.skipped), "seconds": record.seconds}
            for name, record in records.items()
        ],
        "complete": True,
    }
    write_json(output / UNITS_SUMMARY, summary)
    return summary
