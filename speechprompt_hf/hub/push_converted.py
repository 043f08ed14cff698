"""Publishing what was converted: encoders, quantizers, processors, vocoders; language models are bases."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from safetensors import SafetensorError, safe_open

from ..core.conversion import CONVERSION_FILE
from ..core.errors import ConfigurationError
from ..core.files import read_json, write_json
from ..modeling.adapter_card import escape_markdown
from ..modeling.bases import base_types
from ..processors.prosody_quantizer import PROSODY_FILE
from ..processors.quantizer import QUANTIZER_FILE
from ..processors.unit_encoder import ENCODER_FOLDER
from .base_identity import BASE_RECORD_FILE
from .card import write_base_card
from .card_metadata import WrittenCard, merge_metadata, read_readme, write_readme
from .card_sections import Record, merge_sections, read_record, text_outside, write_record
from .card_text import code, table
from .destination import Destination, Published
from .push import push_base
from .staging import temporary_stage

__all__ = ["is_language_model", "push_converted"]

_README = "README.md"
_MODEL = ("config.json", "model.safetensors")
_ENCODER = (*_MODEL, "preprocessor_config.json")
# Kind → files that must be there, and files that may be.
_FILES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "hubert": (_MODEL, (*_ENCODER, CONVERSION_FILE)),
    "unit_hifigan": (_MODEL, (CONVERSION_FILE,)),
    "quantizer": ((QUANTIZER_FILE,), ()),
    "processor": (
        ("processor_config.json", QUANTIZER_FILE, *(f"encoder/{name}" for name in _MODEL)),
        (
            "preprocessor_config.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "dict.txt",
            PROSODY_FILE,
            CONVERSION_FILE,
            *(f"encoder/{name}" for name in (*_ENCODER, CONVERSION_FILE)),
        ),
    ),
}
_SECTIONS = ("converted-summary", "converted-source", "converted-licence")
_WHAT = {
    "hubert": "A HuBERT speech encoder",
    "unit_hifigan": "A vocoder that makes a voice of speech units",
    "quantizer": "A k-means quantizer of speech features",
    "processor": "An encoder and a quantizer that make speech units of recordings",
}


def push_converted(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    license: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    message: str | None = None,
    branch: str | None = None,
    create_pr: bool = False,
    endpoint: str | None = None,
) -> Published:
    """Publish what `speechprompt convert` wrote, as one commit, with a card that says where it came from.

    A language model, alone or with its processor, is published as a base by [`push_base`].

    Args:
        folder (`str | PathLike`): of an encoder, quantizer, processor, vocoder or language model.
        repo_id (`str`): `organisation/name`.
        license (`str`, *optional*): identifier; by default what the conversion recorded.
        private (`bool`, *optional*): for a new repository.
        token (`str`, *optional*): instead of the one of `hf auth login`.
        message (`str`, *optional*): of the commit.
        branch (`str`, *optional*): `main` by default.
        create_pr (`bool`, defaults to `False`): open a pull request instead of committing.
        endpoint (`str`, *optional*): another Hub.

    Returns:
        `Published`: its `kept` says where the card was left as somebody had edited it.

    Raises:
        ConfigurationError: the folder holds nothing that was converted and no processor, or not all of it (links are
            not followed), or no such id is possible.
        HubError: the repository holds something else, the Hub refused or could not be reached.
    """
    source = Path(folder)
    is_base, kind = is_language_model(source), _kind(source)
    facts = _facts(source)
    license = license or facts.get("licence")
    to = {"private": private, "token": token, "branch": branch, "create_pr": create_pr, "endpoint": endpoint}
    if is_base:
        message = message or "Upload a converted language model"
        with temporary_stage(source) as stage:
            _stage_base_with_readme(source, stage, repo_id, license, facts)
            published = push_base(stage, repo_id, message=message, **to)  # type: ignore[arg-type]
            if (stage / BASE_RECORD_FILE).is_file():
                write_json(source / BASE_RECORD_FILE, read_json(stage / BASE_RECORD_FILE))
        return published
    api = HfApi(endpoint=endpoint, token=token)
    target = Destination.find(api, repo_id, branch=branch, model_type=kind)
    with temporary_stage(source) as stage:
        needed, others = _FILES[kind]
        names = {*needed, *others, _README}
        for name, path in _own_files(source):
            if name in names:
                (stage / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, stage / name)
        _check_whole(source, [name for name in needed if not (stage / name).is_file()])
        target.take_over_card(stage)
        card = _write_card(stage, repo_id, kind, license, facts)
        done = target.publish(
            stage,
            message=message or f"Upload a converted {kind}",
            private=private,
            create_pr=create_pr,
            replaces=names.__contains__,
        )
    return replace(done, kept=card.kept)


def is_language_model(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a unit language model, which is published as a base."""
    return _model_type(Path(folder)) in base_types()


def _own_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths of the files in a folder and in its `encoder`; links are not followed out of it."""
    for place in (folder, folder / ENCODER_FOLDER):
        if place.is_dir() and (place == folder or not place.is_symlink()):
            for path in sorted(place.iterdir()):
                if path.is_file() and not path.is_symlink():
                    yield path.relative_to(folder).as_posix(), path


def _check_whole(folder: Path, missing: Sequence[str]) -> None:
    if missing:
        raise ConfigurationError(
            f"{folder} lacks {', '.join(missing)}", hint="convert it again; links to other places are not published"
        )


def _model_type(folder: Path) -> Any:
    path = folder / "config.json"
    values = read_json(path) if path.is_file() else {}
    return values.get("model_type") if isinstance(values, dict) else None


def _kind(folder: Path) -> str:
    """A `model_type` that is converted, `"processor"` or `"quantizer"`."""
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder {folder}", hint="give what speechprompt convert wrote")
    model_type = _model_type(folder)
    if model_type == "speechprompt":
        raise ConfigurationError(f"{folder} holds an adapter", hint="publish it with speechprompt push")
    if model_type is not None:
        kind = str(model_type)
    else:
        kind = "processor" if (folder / "processor_config.json").is_file() else "quantizer"
    is_known = kind in _FILES or kind in base_types()
    if not is_known or (kind == "quantizer" and not (folder / QUANTIZER_FILE).is_file()):
        found = "" if model_type is None else f", but a model of type {str(model_type)[:60]!r}"
        raise ConfigurationError(
            f"{folder} holds no encoder, quantizer, processor, vocoder or language model{found}",
            hint="give what speechprompt convert, quantize or pretrain wrote",
        )
    # A processor that was fitted here is whole as well; it only has no file that it came from.
    if kind != "processor" and not _was_converted(folder):
        raise ConfigurationError(
            f"nothing in {folder} says that it was converted: there is no {CONVERSION_FILE}, and no quantizer "
            "that names its source",
            hint="give what speechprompt convert wrote; a base that was trained is published with speechprompt "
            "push-base",
        )
    return kind


def _was_converted(folder: Path) -> bool:
    if any((folder / name).is_file() for name in (CONVERSION_FILE, f"{ENCODER_FOLDER}/{CONVERSION_FILE}")):
        return True
    quantizer = folder / QUANTIZER_FILE
    return quantizer.is_file() and "source" in _quantizer_metadata(quantizer)


def _facts(folder: Path) -> dict[str, Any]:
    """What the conversion recorded: `source`, `sha256`, `url`, `licence`, `layer`, as far as it is known."""
    records = [
        read_json(path) for path in (folder / CONVERSION_FILE, folder / "encoder" / CONVERSION_FILE) if path.is_file()
    ]
    facts: dict[str, Any] = {}
    for record in records:
        origin = record.get("origin") or {} if isinstance(record, dict) else None
        if not isinstance(origin, dict):
            raise ConfigurationError(f"{CONVERSION_FILE} in {folder} is damaged", hint="convert it again")
        facts |= {"source": record.get("source"), "sha256": record.get("source_sha256")}
        facts |= {name: origin.get(name) for name in ("url", "licence")}
        if origin.get("sha256") not in (None, facts["sha256"]):
            facts |= {"archive": origin.get("file"), "archive_sha256": origin["sha256"]}
    if not records and (folder / QUANTIZER_FILE).is_file():
        metadata = _quantizer_metadata(folder / QUANTIZER_FILE)
        names = {"source": "source", "sha256": "source_sha256", "url": "url", "licence": "licence", "layer": "layer"}
        facts |= {name: metadata.get(key) for name, key in names.items()}
        facts["encoder"] = metadata.get("encoder")
    return {name: value for name, value in facts.items() if value}


def _quantizer_metadata(path: Path) -> Mapping[str, str]:
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ConfigurationError(f"{path} is damaged: {error}", hint="convert it again") from error


def _source_text(facts: Mapping[str, Any]) -> str:
    titles = {
        "source": "file",
        "sha256": "SHA-256",
        "url": "from",
        "archive": "archive",
        "archive_sha256": "SHA-256 of the archive",
        "encoder": "features of",
        "layer": "layer",
    }
    facts = dict(facts)
    digests = facts.pop("sha256", None)
    if not isinstance(digests, dict):
        facts, digests = {**facts, "sha256": digests}, {}
    rows = [(title, code(facts[name])) for name, title in titles.items() if facts.get(name)]
    rows += [(f"SHA-256 of {escape_markdown(str(name))}", code(str(value))) for name, value in digests.items()]
    if not rows:
        return "Nothing says which file it was made of."
    return f"Converted by speechprompt-hf; nothing in the file was executed.\n\n{table(('what', ''), rows, raw=(1,))}"


def _licence_text(license: str | None) -> str:
    return (
        f"{escape_markdown(license)}, as stated for the file that it was made of."
        if license
        else "None was stated with the file that it was made of."
    )


def _stage_base_with_readme(
    source: Path, stage: Path, repo_id: str, license: str | None, facts: Mapping[str, Any]
) -> None:
    """A base's files and card, with a section of its own on where the weights came from; a README that is there stays.

    The source is only read.
    """
    for name, path in _own_files(source):
        (stage / name).parent.mkdir(exist_ok=True)
        if name == _README or not _linked(path, stage / name):
            shutil.copyfile(path, stage / name)
    _check_whole(source, [] if any(stage.glob("model*.safetensors")) else ["model.safetensors"])
    if not (stage / _README).is_file():
        (stage / _README).write_text(f"## Source\n\n{_source_text(facts)}\n", encoding="utf-8")
    write_base_card(stage, repo_id=repo_id, license=license)


def _linked(path: Path, link: Path) -> bool:
    """Weights need not be copied twice; not every file system has links."""
    try:
        link.symlink_to(path.absolute())
    except OSError:
        return False
    return True


def _write_card(folder: Path, repo_id: str, kind: str, license: str | None, facts: Mapping[str, Any]) -> WrittenCard:
    """Generated sections are brought up to date, what somebody wrote stays."""
    readme = read_readme(folder / _README)
    record = read_record(readme.body)
    generated = {
        "library_name": "transformers",
        "tags": ["speechprompt", "speech", kind],
        "license": license,
    }
    metadata, keys, notes = merge_metadata(
        readme.values, {name: value for name, value in generated.items() if value}, record.metadata, overwrite=False
    )
    heading = "##" if re.search(r"^# ", text_outside(readme.body), re.MULTILINE) else "#"
    what = _WHAT.get(kind, f"A model of type {escape_markdown(kind)}")
    sections = {
        "converted-summary": f"{heading} {escape_markdown(repo_id)}\n\n{what}, for speechprompt-hf.",
        "converted-source": f"## Source\n\n{_source_text(facts)}",
        "converted-licence": f"## Licence\n\n{_licence_text(metadata.get('license'))}",
    }
    body, kept = merge_sections(
        readme.body, sections, generated=record.sections, known=_SECTIONS, line_break=readme.line_break
    )
    body = write_record(body, Record(keys, list(_SECTIONS), record.arguments), readme.line_break)
    return write_readme(folder / _README, readme, metadata, body, [*notes, *kept])
