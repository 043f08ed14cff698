"""Vocoders of a Space: folders are copied beside the adapters, those on the Hub are named."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ConfigurationError
from ..core.locations import is_hub_id
from ..hub.staging import adapter_values
from ..modeling.unit_speech import check_vocoder, load_vocoder

__all__ = ["VOCODERS_FOLDER", "place_vocoders", "plain_name"]

VOCODERS_FOLDER = "vocoders"
"""Folder of a Space that holds its vocoders."""

_FILE = re.compile(r"config\.json|README\.md|LICENSE(\.\w+)?|model[\w.-]*\.safetensors(\.index\.json)?")


def place_vocoders(
    adapters: Mapping[str, str | os.PathLike[str]], target: Path, given: str | os.PathLike[str] | None
) -> tuple[str, list[str]]:
    """Copy what adapters in folders need to answer with speech; those on the Hub are not asked what they are.

    Args:
        adapters (`Mapping[str, str | PathLike]`): name → folder or Hub id.
        target (`Path`): of the Space.
        given (`str | PathLike`, *optional*): folder or Hub id, for all; by default the one that each adapter names.

    Returns:
        `tuple[str, list[str]]`: a further argument of `run_page`, as Python text, perhaps empty; vocoders on the Hub.

    Raises:
        AdapterError: a folder holds no vocoder.
        ConfigurationError: an adapter that answers with speech has no vocoder, or one of other units; or one was
            given, and no adapter answers with speech.
        FingerprintMismatchError: a vocoder says the units of another encoder or k-means.
    """
    folders = {name: Path(each) for name, each in adapters.items() if os.path.isdir(each)}
    speaking = {name: values for name, each in folders.items() if (values := adapter_values(each)).get("target_units")}
    if given is not None and not speaking and len(folders) == len(adapters):
        raise ConfigurationError(
            "a vocoder was given, and none of the adapters answers with speech",
            hint="leave the vocoder out (--vocoder)",
        )
    placed = _Placed(target)
    places: dict[str, str] = {}
    for name, values in speaking.items():
        source = os.fspath(given) if given is not None else values.get("vocoder_name_or_path")
        if source is None:
            raise ConfigurationError(
                f"no vocoder is named that makes the units of the adapter {name!r} sound",
                hint="give the folder or Hub id of one that was trained on the same units (--vocoder DIR_OR_ID)",
            )
        places[name] = placed.place(source)
        placed.check(source, values["target_units"], f"the adapter {name!r}")
    if given is not None:
        return f", vocoder={placed.place(os.fspath(given))}", placed.hub_ids
    if not places:
        return "", []
    return ", vocoder={" + ", ".join(f"{name!r}: {place}" for name, place in places.items()) + "}", placed.hub_ids


class _Placed:
    """Vocoders of one Space, each copied once."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._literals: dict[str, str] = {}
        self._opened: dict[str, Any] = {}
        self.hub_ids: list[str] = []

    def place(self, source: str) -> str:
        """What `app.py` calls a vocoder."""
        if source in self._literals:
            return self._literals[source]
        if os.path.isdir(source):
            # Opened first: what the Space could not open is not uploaded.
            self._opened[source] = load_vocoder(source)
            place = f"{VOCODERS_FOLDER}/{len(self._opened) - 1}-{plain_name(Path(source).resolve().name, 'vocoder')}"
            (self._target / place).mkdir(parents=True)
            for path in sorted(Path(source).iterdir()):
                if _FILE.fullmatch(path.name) and path.is_file():
                    shutil.copyfile(path, self._target / place / path.name)
            self._literals[source] = f"HERE / {place!r}"
        elif is_hub_id(source):
            self.hub_ids.append(source)
            self._literals[source] = repr(source)
        else:
            raise ConfigurationError(
                f"there is no vocoder in a folder {source}, and no Hub id has this form",
                hint="check the spelling, or give organisation/name (--vocoder DIR_OR_ID)",
            )
        return self._literals[source]

    def check(self, source: str, units: Mapping[str, Any], of: str) -> None:
        """Refuse a copied vocoder of other units; one on the Hub is checked when the Space opens it."""
        if source in self._opened:
            known = units.get("fingerprint"), units.get("frame_rate")
            check_vocoder(self._opened[source], int(units["num_units"]), *known, of)


def plain_name(name: str, otherwise: str) -> str:
    """A name of a folder in a repository.

    Args:
        name (`str`): of any signs.
        otherwise (`str`): where none of them can stand there.
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:40] or otherwise
