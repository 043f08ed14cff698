"""Model cards: the README.md of an adapter and of a base, made from their files and kept in step with them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import AdapterError, ConfigurationError
from ..core.files import read_json
from ..core.locations import is_hub_id
from .card_adapter import SECTIONS, adapter_metadata, adapter_sections
from .card_base import BASE_SECTIONS, base_metadata, base_sections
from .card_facts import adapter_facts
from .card_metadata import Readme, WrittenCard, merge_metadata, read_readme, write_readme
from .card_sections import Record, merge_sections, read_record, text_outside, write_record
from .staging import check_folder

__all__ = ["WrittenCard", "write_base_card", "write_model_card"]

_README = "README.md"
_NEEDED: dict[str, type | tuple[type, ...]] = {
    "accuracy": (int, float),
    "macro_f1": (int, float),
    "accuracy_interval": list,
    "trained_parameters": int,
    "seconds": (int, float),
    "baselines": dict,
}


def write_model_card(
    folder: str | os.PathLike[str],
    *,
    repo_id: str | None = None,
    base_id: str | None = None,
    base_revision: str | None = None,
    license: str | None = None,
    dataset: str | None = None,
    language: str | list[str] | None = None,
    report: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> WrittenCard:
    """Write the `README.md` of an adapter from its configuration and its report.

    Calling it again brings the generated parts up to date. What somebody wrote stays: text outside the markers,
    sections that were edited between them, metadata keys that were added or changed, and what was deleted stays away;
    docs/model-card.md says how that is known.

    Args:
        folder (`str | PathLike`): the adapter folder.
        repo_id (`str`, *optional*): its id on the Hub; what the snippets open.
        base_id (`str`, *optional*): id of its base; by default as the adapter names it, unless that is a path.
        base_revision (`str`, *optional*): the base's commit; by default the one in the adapter.
        license (`str`, *optional*): identifier of the licence, such as `"apache-2.0"`.
        dataset (`str`, *optional*): Hub id of the data; by default the report's source, if it has the form
            `organisation/name` and is no file or folder here.
        language (`str | list[str]`, *optional*): codes of the languages.
        report (`Mapping`, *optional*): the content of `report.json`, which is read from the folder by default.
        overwrite (`bool`, defaults to `False`): also replace edited sections and changed values of generated metadata.

    For `repo_id`, `license`, `dataset`, `language`, `base_id` and `base_revision`, `None` means as in the call before.

    Returns:
        `WrittenCard`: a `huggingface_hub.ModelCard`; its `kept` says which generated parts were left as somebody
        changed them.

    Raises:
        AdapterError: the folder holds no adapter.
        ConfigurationError: an id is impossible, the report is incomplete, or the present README cannot be read; it
            is as it was.
    """
    path = Path(folder)
    config = _config_of(path)
    for what, name in (("repo_id", repo_id), ("base_id", base_id), ("dataset", dataset)):
        _check_id(what, name)
    readme = read_readme(path / _README)
    record = read_record(readme.body)
    report_path = path / "report.json"
    if report is None and report_path.is_file():
        report = read_json(report_path)
    _check_report(report, str(report_path), says_sequences=config.get("output_vocab_size") is not None)
    given = {
        "repo_id": repo_id,
        "base_id": base_id,
        "base_revision": base_revision,
        "license": license,
        "dataset": dataset,
        "language": language,
    }
    arguments = {**_remembered(record), **{name: value for name, value in given.items() if value is not None}}
    if base_id and base_id != record.arguments.get("base_id") and base_revision is None:
        # The commit of another base.
        arguments.pop("base_revision", None)
    source = str((report or {}).get("data", {}).get("source", ""))
    if Path(source).exists():
        arguments["local_data"] = _data_digest(report or {})
    known = {**arguments, "dataset": arguments.get("dataset") or _hub_source(source, report or {}, arguments)}
    facts = adapter_facts(path, config, report or {}, known)
    metadata, keys, notes = merge_metadata(
        readme.values, adapter_metadata(facts), record.metadata, overwrite=overwrite
    )
    # The text follows what the metadata say in the end.
    facts = adapter_facts(
        path, config, report or {}, {**known, "license": metadata.get("license"), "language": metadata.get("language")}
    )
    sections = adapter_sections(facts, heading=_heading(readme))
    new = Record(keys, record.sections, arguments)
    return _write(path / _README, readme, metadata, sections, SECTIONS, new, notes, overwrite)


def write_base_card(
    folder: str | os.PathLike[str],
    *,
    repo_id: str,
    license: str | None = None,
    language: str | list[str] | None = None,
    overwrite: bool = False,
) -> WrittenCard:
    """Write the `README.md` of a base; a README that is there is kept, and sections are appended to it once.

    Args:
        folder (`str | PathLike`): of the base: language model, processor, encoder and quantizer.
        repo_id (`str`): its id on the Hub.
        license (`str`, *optional*): identifier of the licence.
        language (`str | list[str]`, *optional*): codes of the languages.
        overwrite (`bool`, defaults to `False`): also replace edited sections and changed values of generated metadata.

    Returns:
        `WrittenCard`: as in [`write_model_card`].

    Raises:
        ConfigurationError: the folder holds no base, the id is impossible, or the present README cannot be read.
    """
    path = Path(folder)
    check_folder(path, ConfigurationError, "speechprompt pretrain")
    _check_id("repo_id", repo_id)
    readme = read_readme(path / _README)
    record = read_record(readme.body)
    given = {"license": license, "language": language}
    arguments = {**_remembered(record), **{name: value for name, value in given.items() if value is not None}}
    generated = base_metadata(arguments.get("license"), arguments.get("language"))
    metadata, keys, notes = merge_metadata(readme.values, generated, record.metadata, overwrite=overwrite)
    sections = base_sections(path, repo_id, license=metadata.get("license"), heading=_heading(readme))
    new = Record(keys, record.sections, arguments)
    return _write(path / _README, readme, metadata, sections, BASE_SECTIONS, new, notes, overwrite)


def _write(
    path: Path,
    readme: Readme,
    metadata: Mapping[str, Any],
    sections: Mapping[str, str],
    known: Collection[str],
    record: Record,
    notes: list[str],
    overwrite: bool,
) -> WrittenCard:
    """Merge the sections, remember what was generated, and write."""
    body, kept = merge_sections(
        readme.body,
        sections,
        generated=record.sections,
        known=known,
        overwrite=overwrite,
        line_break=readme.line_break,
    )
    names = [name for name in known if name in {*record.sections, *sections}]
    body = write_record(body, Record(record.metadata, names, record.arguments), readme.line_break)
    return write_readme(path, readme, metadata, body, [*notes, *kept])


def _config_of(folder: Path) -> dict[str, Any]:
    check_folder(folder, AdapterError, "speechprompt train")
    config: dict[str, Any] = read_json(folder / "config.json")
    if config.get("model_type") != "speechprompt":
        raise AdapterError(
            f"{folder} holds a model of type {config.get('model_type')!r}, no adapter",
            hint="write_base_card writes the card of a base",
        )
    return config


def _check_id(what: str, name: str | None) -> None:
    if name is not None and not is_hub_id(name, with_organisation=False):
        raise ConfigurationError(f"{what} is {name!r}, no id of the Hub", hint="give organisation/name")


def _check_report(report: Mapping[str, Any] | None, place: str, *, says_sequences: bool) -> None:
    if report is None:
        return
    if not isinstance(report, Mapping):
        raise ConfigurationError(f"{place} holds no report", hint="docs/report.md has the schema")
    if says_sequences:
        return
    for name, kind in _NEEDED.items():
        if not isinstance(report.get(name), kind):
            raise ConfigurationError(
                f"the report ({place}) has {name} {report.get(name)!r}", hint="docs/report.md has the schema"
            )
    if len(report["accuracy_interval"]) != 2:
        raise ConfigurationError(
            f"the report ({place}) has accuracy_interval {report['accuracy_interval']!r}", hint="two numbers"
        )


def _hub_source(source: str, report: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    """The Hub id that a report's source is, as far as its form and this machine tell."""
    if source.count("/") != 1 or not is_hub_id(source, with_organisation=False) or Path(source).exists():
        return None
    # A relative path that was there when the card was first written.
    return None if arguments.get("local_data") == _data_digest(report) else source


def _remembered(record: Record) -> dict[str, Any]:
    """The arguments of an earlier call, as far as nobody damaged them."""
    texts = {name: value for name, value in record.arguments.items() if isinstance(value, str)}
    ids = ("repo_id", "base_id", "dataset")
    kept: dict[str, Any] = {
        name: value for name, value in texts.items() if name not in ids or is_hub_id(value, with_organisation=False)
    }
    language = record.arguments.get("language")
    if isinstance(language, list) and all(isinstance(code, str) for code in language):
        kept["language"] = language
    return kept


def _data_digest(report: Mapping[str, Any]) -> str:
    return str(report.get("data", {}).get("fingerprint", {}).get("digest", ""))[:16]


def _heading(readme: Readme) -> int:
    """Level of the title: somebody's own title comes first."""
    return 2 if re.search(r"^# ", text_outside(readme.body), re.MULTILINE) else 1
