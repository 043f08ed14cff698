"""Code that travels with a base, so that readers without this package open it and its adapters.

The code lies in the base's repository: given the id of an adapter, the Auto classes jump to the base that it names and
look for code there and nowhere else. Adapters refer to it as `organisation/base--module.Class`.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..core.errors import ConfigurationError
from ..core.files import atomic_path, read_json
from ..version import __version__
from .remote_flatten import flat_name, flatten

__all__ = [
    "RemoteKind",
    "adapter_auto_map",
    "add_remote_code",
    "auto_map_entries",
    "generate_remote_code",
    "is_generated_code",
    "refer_to_remote_code",
    "remote_code_files",
]

RemoteKind = Literal["base", "adapter", "processor", "tokenizer"]

_ROOT = "hub.remote_speechprompt"
_ENTRY = flat_name(_ROOT)
_FEATURE_EXTRACTOR = {"AutoFeatureExtractor": "SpeechUnitFeatureExtractor"}
_BASES: dict[str, dict[str, str]] = {
    "gslm": {
        "AutoConfig": "GSLMConfig",
        "AutoModel": "GSLMModel",
        "AutoModelForCausalLM": "GSLMForCausalLM",
        "AutoModelForAudioClassification": "GSLMForAudioClassification",
        "AutoModelForSpeechSeq2Seq": "GSLMForSpeechSeq2Seq",
    },
    "unit_causal_lm": {
        "AutoConfig": "UnitCausalLMConfig",
        "AutoModel": "UnitCausalLMModel",
        "AutoModelForCausalLM": "UnitCausalLMForCausalLM",
        "AutoModelForAudioClassification": "UnitCausalLMForAudioClassification",
        "AutoModelForSpeechSeq2Seq": "UnitCausalLMForSpeechSeq2Seq",
    },
    "unit_mbart": {
        "AutoConfig": "UnitMBartConfig",
        "AutoModel": "UnitMBartModel",
        "AutoModelForSeq2SeqLM": "UnitMBartForConditionalGeneration",
        "AutoModelForAudioClassification": "UnitMBartForAudioClassification",
        "AutoModelForSpeechSeq2Seq": "UnitMBartForSpeechSeq2Seq",
    },
}
_CLASSES: dict[str, dict[str, dict[str, str]]] = {
    "base": {"config.json": _BASES["gslm"]},
    "adapter": {
        "config.json": {
            "AutoConfig": "SpeechPromptConfig",
            # One entry for both kinds of adapters: transformers goes on with the class that it was given first.
            "AutoModel": "SpeechPromptModel",
            "AutoModelForCausalLM": "SpeechPromptForCausalLM",
            "AutoModelForSeq2SeqLM": "SpeechPromptForSeq2SeqLM",
            "AutoModelForAudioClassification": "SpeechPromptForAudioClassification",
            "AutoModelForSpeechSeq2Seq": "SpeechPromptForSequenceGeneration",
        }
    },
    "processor": {"processor_config.json": {"AutoProcessor": "SpeechUnitProcessor"}},
    "tokenizer": {"tokenizer_config.json": {"AutoTokenizer": "UnitTokenizer"}},
}
_MODEL_TYPES = {**dict.fromkeys(_BASES, "base"), "speechprompt": "adapter"}
_MARK = "# Generated from speechprompt_hf/"


@cache
def _sources() -> tuple[tuple[str, str], ...]:
    return tuple(flatten(_ROOT, f"speechprompt-hf {__version__}").items())


def remote_code_files() -> dict[str, str]:
    """The code of all models and processors as flat modules, the same bytes for the same version of this package.

    Returns:
        `dict[str, str]`: source by file name. `remote_speechprompt.py` is the one that every `auto_map` names.

    Raises:
        ConfigurationError: a module cannot travel; the message names file and line.
    """
    return dict(_sources())


def generate_remote_code(folder: str | os.PathLike[str]) -> list[str]:
    """Write the flat modules into a folder, all or none of them.

    Modules that an older version of this package generated there and that are not needed any more are removed; files
    that were not generated are never touched.

    Args:
        folder (`str | PathLike`): of a base; made if it is missing.

    Returns:
        `list[str]`: names of the written files, sorted.

    Raises:
        ConfigurationError: a file with the name of a module is there that was not generated.
    """
    target = Path(folder)
    sources = remote_code_files()
    stale = _check_place(target, sources)
    _write_all(target, sources)
    for path in stale:
        path.unlink()
    return list(sources)


def auto_map_entries(
    kind: RemoteKind, base_id: str | None = None, *, model_type: str = "gslm"
) -> dict[str, dict[str, Any]]:
    """What the `auto_map` of each JSON file says.

    The feature extractor is not among them: its `auto_map` lies inside that file's block `feature_extractor`, where
    `add_remote_code` and `refer_to_remote_code` write it.

    Args:
        kind (`"base" | "adapter" | "processor" | "tokenizer"`): whose files.
        base_id (`str`, *optional*): Hub id, or folder, that holds the code; without it the code lies beside the file.
        model_type (`str`, defaults to `"gslm"`): of a base.

    Returns:
        `dict[str, dict]`: file name → Auto class → `module.Class`, for a tokenizer a list of two.

    Raises:
        ConfigurationError: there is no such kind, or transformers cannot refer to code in `base_id`.
    """
    if kind not in _CLASSES:
        raise ConfigurationError(f"kind is {kind!r}", hint=f"one of {', '.join(map(repr, _CLASSES))}")
    if model_type not in _BASES:
        raise ConfigurationError(f"model_type is {model_type!r}", hint=f"one of {', '.join(map(repr, _BASES))}")
    files = {"config.json": _BASES[model_type]} if kind == "base" else _CLASSES[kind]
    entries: dict[str, dict[str, Any]] = {
        file_name: _references(classes, base_id) for file_name, classes in files.items()
    }
    if kind == "tokenizer":
        # The second of the pair would be a tokenizer of the tokenizers library.
        entries = {name: {auto: [value, None] for auto, value in maps.items()} for name, maps in entries.items()}
    return entries


def adapter_auto_map(base_id: str) -> dict[str, str]:
    """The `auto_map` of an adapter's `config.json`.

    Args:
        base_id (`str`): Hub id, or folder, of the base that holds the code.

    Raises:
        ConfigurationError: transformers cannot refer to code there.
    """
    return auto_map_entries("adapter", base_id)["config.json"]


def add_remote_code(base_folder: str | os.PathLike[str]) -> list[str]:
    """Let a base carry the code that opens it and its adapters.

    The modules are written first, the JSON files that name them last: a reader never sees a name without its code.

    Args:
        base_folder (`str | PathLike`): folder of a base, changed in place.

    Returns:
        `list[str]`: names of the written files, sorted.

    Raises:
        ConfigurationError: the folder holds no base, a JSON file is damaged, or a file is in the way.
    """
    folder = Path(base_folder)
    _check_kind(folder, "base")
    sources = remote_code_files()
    stale = _check_place(folder, sources)
    written = {**_json_files(folder, "base", None), **sources}
    _write_all(folder, written)
    for path in stale:
        path.unlink()
    return sorted(written)


def refer_to_remote_code(adapter_folder: str | os.PathLike[str], base_id: str) -> list[str]:
    """Let an adapter's configuration, processor and tokenizer name the code that its base carries.

    Args:
        adapter_folder (`str | PathLike`): folder of an adapter, changed in place.
        base_id (`str`): Hub id of the base; a folder serves only on this machine.

    Returns:
        `list[str]`: names of the written files, sorted.

    Raises:
        ConfigurationError: the folder holds no adapter, a JSON file is damaged, or transformers cannot refer to code
            in `base_id`.
    """
    folder = Path(adapter_folder)
    _check_kind(folder, "adapter")
    written = _json_files(folder, "adapter", base_id)
    _write_all(folder, written)
    return sorted(written)


def _references(classes: dict[str, str], base_id: str | None) -> dict[str, str]:
    if base_id is not None and (not base_id or "--" in base_id):
        raise ConfigurationError(
            f"code cannot be referred to in {base_id!r}",
            hint="transformers ends the name of a repository at its first '--': give the base another name",
        )
    place = "" if base_id is None else f"{base_id}--"
    return {auto: f"{place}{_ENTRY}.{name}" for auto, name in classes.items()}


def _json_files(folder: Path, kind: RemoteKind, base_id: str | None) -> dict[str, str]:
    """New text of the JSON files that are there."""
    values: dict[str, dict[str, Any]] = {}
    own_type = read_json(folder / "config.json").get("model_type")
    for part in (kind, "processor", "tokenizer"):
        for name, auto_map in auto_map_entries(
            part, base_id, model_type=own_type if kind == "base" else "gslm"
        ).items():
            if (folder / name).is_file():
                values[name] = {**read_json(folder / name), "auto_map": auto_map}
    extractor = {"auto_map": _references(_FEATURE_EXTRACTOR, base_id)}
    processor = values.get("processor_config.json", {})
    if isinstance(processor.get("feature_extractor"), dict):
        processor["feature_extractor"] = {**processor["feature_extractor"], **extractor}
    if (folder / "preprocessor_config.json").is_file():
        values["preprocessor_config.json"] = {**read_json(folder / "preprocessor_config.json"), **extractor}
    # The language model of the method "finetune" was a base, and its configuration may name code beside itself.
    own = folder / "language_model" / "config.json"
    if own.is_file():
        tuned = read_json(own)
        auto_map = auto_map_entries("base", base_id, model_type=tuned.get("model_type", "gslm"))["config.json"]
        values["language_model/config.json"] = {**tuned, "auto_map": auto_map}
    return {name: json.dumps(value, indent=2, ensure_ascii=False) + "\n" for name, value in values.items()}


def _check_kind(folder: Path, kind: str) -> None:
    path = folder / "config.json"
    if not path.is_file():
        raise ConfigurationError(f"{folder} has no config.json", hint=f"give the folder of a saved {kind}")
    model_type = read_json(path).get("model_type")
    if _MODEL_TYPES.get(model_type) != kind:
        other = _MODEL_TYPES.get(model_type, "something else")
        hint = "a base carries the code (add_remote_code), an adapter refers to it (refer_to_remote_code)"
        raise ConfigurationError(f"{folder} holds {other} of model type {model_type!r}, no {kind}", hint=hint)


def is_generated_code(path: Path) -> bool:
    """Whether a Python file was generated by this package, in any version."""
    head = path.read_text(encoding="utf-8", errors="replace").splitlines()[:2]
    return any(line.startswith(_MARK) for line in head)


def _check_place(folder: Path, sources: dict[str, str]) -> list[Path]:
    """The generated modules that are not needed any more; refuses to write over anybody's own file."""
    stale = []
    for path in sorted(folder.glob("*.py")):
        is_generated = is_generated_code(path)
        if path.name in sources and not is_generated:
            raise ConfigurationError(
                f"{path} was not generated by this package and would be overwritten", hint="move it away or rename it"
            )
        if is_generated and path.name not in sources:
            stale.append(path)
    return stale


def _write_all(folder: Path, texts: dict[str, str]) -> None:
    """Write every file beside its place before any is moved there; the first of `texts` are moved last."""
    with ExitStack() as stack:
        for name, text in texts.items():
            stack.enter_context(atomic_path(folder / name)).write_text(text, encoding="utf-8")
