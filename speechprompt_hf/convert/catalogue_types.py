"""What one line of the catalogue says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["KINDS", "CatalogueEntry", "CatalogueFile", "Kind"]

Kind = Literal["quantizer", "encoder", "gslm", "unit-mbart", "hifigan", "prompt"]
KINDS: tuple[Kind, ...] = ("encoder", "quantizer", "gslm", "unit-mbart", "hifigan", "prompt")


@dataclass(frozen=True)
class CatalogueFile:
    """A published file.

    Attributes:
        path (`str`): below the server's address.
        sha256 (`str`, *optional*): 64 hexadecimal digits, where somebody pinned them; for the others the digest is
            recorded at the first download and held from then on.
    """

    path: str
    sha256: str | None = None


@dataclass(frozen=True)
class CatalogueEntry:
    """A published checkpoint.

    Attributes:
        kind (`str`): what converts it.
        name (`str`): unique among those of its kind.
        file (`CatalogueFile`): the checkpoint, or the archive that holds it.
        companion (`CatalogueFile`, *optional*): what lies beside it: a vocoder's settings, a dictionary.
        units (`str`, *optional*): the alphabet of units; what has the same one fits together.
        encoder (`str`, *optional*): name of the encoder whose features were clustered.
        layer (`int`, *optional*): of that encoder, as an index into `hidden_states`.
        num_units (`int`, *optional*): size of the alphabet.
        licence (`str`, *optional*): identifier; `None` where nobody stated one.
        refused (`str`, *optional*): why it is listed but not converted.
    """

    kind: Kind
    name: str
    file: CatalogueFile
    companion: CatalogueFile | None = None
    units: str | None = None
    encoder: str | None = None
    layer: int | None = None
    num_units: int | None = None
    licence: str | None = None
    refused: str | None = None
