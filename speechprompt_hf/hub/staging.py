"""What a repository holds: copies of a folder's public files, with names and commits instead of paths."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.errors import AdapterError, ConfigurationError, HubError, SpeechPromptError
from ..core.files import read_json, write_json
from ..core.locations import is_disk_full, looks_like_a_path
from ..core.vocabulary import UnitVocabulary
from ..modeling.adapter_files import GENERATION, OUTPUT_TOKENIZER
from ..modeling.base_loading import load_base
from ..modeling.untrusted import check_config_values, read_config_file

__all__ = [
    "BASE_FINGERPRINT_FILE",
    "adapter_values",
    "check_folder",
    "is_adapter_file",
    "is_base_file",
    "stage_adapter",
    "stage_base",
    "stage_wrapped",
    "temporary_stage",
]

BASE_FINGERPRINT_FILE = "fingerprint.json"
"""Identity of a base's weights and units, so that adapters are checked without downloading it."""

_ADAPTER_FILES = (
    "config.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "verbalizer.safetensors",
    OUTPUT_TOKENIZER,
    GENERATION,
    "processor_config.json",
    "tokenizer_config.json",
    "dict.txt",
    "README.md",
    "confusion.png",
)
_TRAINING_FILES = ("model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt", "training_args.bin")
_BASE_FILES = (
    "config.json",
    "generation_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "dict.txt",
    "self_test.json",
    "model.safetensors.index.json",
    "quantizer.safetensors",
    "prosody_quantizer.safetensors",
    "README.md",
    BASE_FINGERPRINT_FILE,
)
_BASE_PATTERN = re.compile(r"model(-\d+-of-\d+)?\.safetensors|encoder/[\w.-]+\.(json|safetensors)")
# Of a stock language model: its own weights and settings, which those of its wrapped base replace.
_STOCK_FILE = re.compile(
    r"model[\w.-]*\.safetensors(\.index\.json)?|(generation_)?config\.json|tokenizer_config\.json"
)
_LANGUAGE_MODEL = re.compile(r"language_model/[\w.-]+\.(json|safetensors)")


def is_adapter_file(path: str) -> bool:
    """Whether a path belongs in an adapter's repository."""
    return path in _ADAPTER_FILES or _LANGUAGE_MODEL.fullmatch(path) is not None


def is_training_file(path: str) -> bool:
    """Whether a path is what only the training that wrote it needs: pickles, optimizer states, raw vectors."""
    return path in _TRAINING_FILES


def is_base_file(path: str) -> bool:
    """Whether a path belongs in a base's repository."""
    return path in _BASE_FILES or _BASE_PATTERN.fullmatch(path) is not None


@contextmanager
def temporary_stage(source: Path) -> Iterator[Path]:
    """An empty folder for what will be uploaded, gone when the block ends.

    Args:
        source (`Path`): what is published, for the message.

    Yields:
        `Path`: the folder.

    Raises:
        HubError: there is no room for it, or a file cannot be copied; nothing was changed on the Hub.
    """
    try:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
    except SpeechPromptError:
        raise
    except OSError as error:
        # Where nothing at all can be written, Python finds no folder for temporary files.
        place = tempfile.tempdir or "a temporary folder"
        full = is_disk_full(error) or tempfile.tempdir is None
        raise HubError(
            f"{source} cannot be copied into {place} for the upload: {error}",
            hint=(
                "make room, or let TMPDIR name a folder on another disk" if full else "look at the file that it names"
            )
            + "; nothing was changed on the Hub",
            is_mistake=not full,
        ) from error


def stage_adapter(folder: Path, target: Path, *, base_id: str, base_commit: str | None) -> None:
    """Copy an adapter's public files, and let them name the base by id and commit.

    Args:
        folder (`Path`): of the adapter.
        target (`Path`): an empty folder.
        base_id (`str`): the base on the Hub, or the name of an embedded one.
        base_commit (`str`, *optional*): its commit; an embedded base has none.

    Raises:
        AdapterError: a file is missing.
    """
    values = adapter_values(folder)
    needed = ["config.json", "verbalizer.safetensors"]
    if values.get("method", "prompt") == "prompt":
        needed += ["adapter_config.json", "adapter_model.safetensors"]
    if values.get("output_vocab_size") is not None:
        needed.append(OUTPUT_TOKENIZER)
    _copy(folder, target, is_adapter_file, needed, "an adapter that can be shared")
    _rewrite(target / "config.json", {"base_model_name_or_path": base_id, "base_revision": base_commit})
    vocoder = values.get("vocoder_name_or_path")
    if vocoder is not None and (looks_like_a_path(vocoder) or Path(vocoder).is_dir()):
        # A folder of this machine: nobody else could open it, nor is it theirs to know.
        _rewrite(target / "config.json", {"vocoder_name_or_path": None, "vocoder_revision": None})
    _rewrite(target / "adapter_config.json", {"base_model_name_or_path": base_id, "revision": base_commit})
    if (target / "processor_config.json").is_file():
        processor = read_json(target / "processor_config.json")
        encoder = processor.get("unit_encoder") or {}
        if encoder.get("source") == ".":
            raise AdapterError(
                f"the processor in {folder} carries its own encoder",
                hint="save the adapter with a processor that names its base: processor.save_pretrained(folder, "
                "base_source=...)",
            )
        _rewrite(
            target / "processor_config.json",
            {"unit_encoder": {**encoder, "source": base_id, "revision": base_commit}},
        )


def stage_base(folder: Path, target: Path) -> None:
    """Copy a base's public files.

    Args:
        folder (`Path`): of the base.
        target (`Path`): an empty folder.

    Raises:
        ConfigurationError: a file is missing.
    """
    _copy(folder, target, is_base_file, ["config.json"], "a base", error=ConfigurationError)
    if not any(target.glob("model*.safetensors")):
        raise ConfigurationError(
            f"{folder} has no model.safetensors",
            hint="speechprompt pretrain writes a base; pickled weights (pytorch_model.bin) are not published",
        )


def stage_wrapped(folder: Path, target: Path) -> None:
    """Write the base that an untouched stock language model becomes, and copy what makes its units.

    Args:
        folder (`Path`): as TWIST or slamkit saved it; a processor may lie beside.
        target (`Path`): an empty folder.

    Raises:
        SpeechPromptError: the model cannot be wrapped.
    """
    lm = load_base(str(folder))
    lm.save_pretrained(target)
    (target / "dict.txt").write_text(UnitVocabulary.from_num_units(lm.num_units).to_dict_txt(), encoding="utf-8")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and is_base_file(name) and not _STOCK_FILE.fullmatch(name):
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target / name)


def adapter_values(folder: Path) -> dict[str, Any]:
    """The content of an adapter's config.json.

    Raises:
        AdapterError: there is none, or it is no adapter's.
    """
    check_folder(folder, AdapterError, "speechprompt train")
    values = read_config_file(folder / "config.json")
    check_config_values(values, str(folder))
    if values.get("model_type") != "speechprompt":
        raise AdapterError(
            f"{folder} holds a model of type {values.get('model_type')!r}, no adapter",
            hint="a base is published with speechprompt push-base",
        )
    return values


def check_folder(folder: Path, error: type[AdapterError] | type[ConfigurationError], wrote: str) -> None:
    """Refuse what is no folder, or a folder without a config.json.

    Args:
        folder (`Path`): what was given.
        error (`type`): what to raise.
        wrote (`str`): the command that writes such folders, for the message.

    Raises:
        SpeechPromptError: of `error`.
    """
    hint = f"give the folder that {wrote} wrote"
    if folder.is_file():
        raise error(f"{folder} is a file", hint=hint)
    if not folder.is_dir():
        raise error(f"there is no folder {folder}", hint=hint)
    if not (folder / "config.json").is_file():
        raise error(f"{folder} has no config.json", hint=hint)


def _copy(
    folder: Path,
    target: Path,
    belongs: Any,
    needed: list[str],
    what: str,
    error: type[AdapterError] | type[ConfigurationError] = AdapterError,
) -> None:
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise error(f"{folder} is not {what}: {', '.join(missing)} missing", hint="save it again, completely")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and belongs(name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)


def _rewrite(path: Path, changes: Mapping[str, Any]) -> None:
    if path.is_file():
        write_json(path, {**read_json(path), **changes})
