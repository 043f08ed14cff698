"""What a service takes from strangers: bytes, seconds, requests that wait, time, and where adapters may lie."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path

from ..core.errors import ConfigurationError
from ..core.locations import is_hub_id
from .refusals import RequestRefusedError

__all__ = ["AdapterPermissions", "ServingLimits"]


@dataclass(frozen=True)
class ServingLimits:
    """Limits of one service. What is beyond them is refused with a sentence, not cut.

    Attributes:
        max_bytes (`int`, defaults to 10485760): of one recording's file.
        max_seconds (`float`, defaults to 60.0): that one recording lasts.
        max_queue (`int`, defaults to 256): requests that are read, decoded, waiting or being answered at once.
        timeout_s (`float`, defaults to 30.0): seconds from the first byte of a request to its answer.
        max_pending_bytes (`int`, defaults to 268435456): of all files and samples of those requests together.
        max_beams (`int`, defaults to 8): that a request for a text may ask for.
        decoding_threads (`int`, defaults to 2): files that are decoded at once.

    Raises:
        ConfigurationError: a limit is not above zero, or a recording of `max_bytes` would never be let in.
    """

    max_bytes: int = 10_485_760
    max_seconds: float = 60.0
    max_queue: int = 256
    timeout_s: float = 30.0
    max_pending_bytes: int = 268_435_456
    max_beams: int = 8
    decoding_threads: int = 2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ConfigurationError(f"{field.name} is {value!r}", hint="give a number above zero")
            if field.type == "int" and not isinstance(value, int):
                raise ConfigurationError(f"{field.name} is {value!r}", hint="give a whole number")
        if self.max_body_bytes > self.max_pending_bytes:
            raise ConfigurationError(
                f"max_pending_bytes is {self.max_pending_bytes}, and one request may have {self.max_body_bytes}",
                hint="lower max_bytes or raise max_pending_bytes",
            )

    @property
    def max_body_bytes(self) -> int:
        """Of a request with a file of `max_bytes` in JSON: base64 and some room for parameters."""
        return 4 * (self.max_bytes + 2) // 3 + 65_536


@dataclass(frozen=True)
class AdapterPermissions:
    """Where the adapters may come from that are loaded while a service runs.

    Attributes:
        folders (`tuple[Path, ...]`, defaults to `()`): adapters in them or below; links are followed first.
        repositories (`tuple[str, ...]`, defaults to `()`): Hub ids, with `*` for any letters: `"your-name/*"`.
    """

    folders: tuple[Path, ...] = ()
    repositories: tuple[str, ...] = ()

    def locate(self, adapter: str) -> str:
        """A folder's own path, or the Hub id, of an adapter that may be loaded.

        Args:
            adapter (`str`): folder or Hub id.

        Raises:
            RequestRefusedError: neither is allowed, or there is no such folder.
        """
        if is_hub_id(adapter) and any(fnmatchcase(adapter, pattern) for pattern in self.repositories):
            return adapter
        try:
            path = Path(adapter).resolve()
            allowed = any(path.is_relative_to(folder.resolve()) for folder in self.folders)
            is_there = allowed and path.is_dir()
        except (OSError, ValueError, RuntimeError):
            allowed = is_there = False
        if not allowed:
            # The same sentence whether or not it exists: what lies elsewhere on the disk is nobody's business.
            raise RequestRefusedError(403, "this service may not load adapters from there")
        if not is_there:
            raise RequestRefusedError(404, "there is no such folder")
        return str(path)
