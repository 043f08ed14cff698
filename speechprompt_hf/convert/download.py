"""Large files from the network: resumed where they broke off, verified, and whole or absent under their name."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx2
from filelock import FileLock

from ..core.digest import sha256_of_file
from ..core.errors import SpeechPromptError
from ..core.files import read_json, write_json
from ..core.locations import is_disk_full
from .download_errors import (
    DiskFullError,
    DownloadError,
    FileNotThereError,
    IncompleteDownloadError,
    UnreachableError,
    WrongDigestError,
)

__all__ = ["Download", "download"]

OnProgress = Callable[[int, int | None], None]

_BUSY = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_PAUSE = 30.0
_ATTEMPTS_IN_ALL = 25


@dataclass(frozen=True)
class Download:
    """A file that is whole.

    Attributes:
        path (`Path`): where it is.
        url (`str`): where it came from; for one that was there, where its record says.
        sha256 (`str`): its digest.
        num_bytes (`int`): its size.
        verified (`str`): `"sha256"`: against a digest that was pinned, or recorded at an earlier download; `"size"`:
            against the length that the server gave; `"nothing"`: the server gave none.
        was_there (`bool`): nothing was downloaded.
    """

    path: Path
    url: str
    sha256: str
    num_bytes: int
    verified: Literal["sha256", "size", "nothing"]
    was_there: bool


def download(
    url: str,
    target: str | Path,
    *,
    sha256: str | None = None,
    on_progress: OnProgress | None = None,
    attempts: int = 4,
    timeout: float = 30.0,
    pause: float = 0.5,
) -> Download:
    """Fetch a file, or find it from an earlier call.

    What arrives is kept in `<target>.part`; a later call goes on there if the server can and still has the same file.
    `<target>.json` records address, digest and size: a file that is there is used again if it has the recorded digest,
    and a file that is fetched again must have it, from whatever address. Processes that fetch the same file wait for
    each other.

    Args:
        url (`str`): of the file; redirections are followed, but not from https to http.
        target (`str | Path`): where it shall be.
        sha256 (`str`, *optional*): the digest that it must have.
        on_progress (`Callable`, *optional*): called with the bytes that are there and the size, `None` where the
            server gave none.
        attempts (`int`, defaults to 4): how often in a row nothing more may arrive than ever before, until it is given
            up. After 25 times as many attempts it is given up in any case.
        timeout (`float`, defaults to 30.0): seconds without a byte after which a connection counts as broken.
        pause (`float`, defaults to 0.5): seconds before the second attempt, doubled for each further one.

    Returns:
        `Download`.

    Raises:
        UnreachableError: the server could not be reached, or is busy.
        FileNotThereError: it has no such file, or shows it to nobody.
        IncompleteDownloadError: the connection broke again and again; the next call goes on from there.
        WrongDigestError: the file has another digest than the one pinned or recorded; it is deleted.
        DiskFullError: there is no room for it; what arrived is kept.
    """
    place = Path(target)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place}.lock"):
            return _Fetch(url, place, sha256, on_progress, timeout).run(attempts, pause)
    except OSError as error:
        if isinstance(error, SpeechPromptError) or not is_disk_full(error):
            raise
        raise DiskFullError(
            f"no room on the disk for {place}: {error.strerror}",
            hint="make room, or let SPEECHPROMPT_CACHE name a folder on another disk; then the download goes on",
        ) from error


class _Fetch:
    """One file on its way from one address to one place."""

    def __init__(self, url: str, place: Path, sha256: str | None, on_progress: OnProgress | None, timeout: float):
        self.url, self.place, self.timeout = url, place, timeout
        self.part, self.part_record = Path(f"{place}.part"), Path(f"{place}.part.json")
        self.record = Path(f"{place}.json")
        self.on_progress = on_progress or (lambda done, total: None)
        self.pinned = sha256.lower() if sha256 else None
        # The place stands for the file: a digest counts from whatever server it was recorded.
        known = _read_record(self.record)
        self.recorded = str(known["sha256"]) if known.get("sha256") else None
        self.recorded_url = str(known["url"]) if known.get("url") else url
        self.size: int | None = None

    @property
    def expected(self) -> str | None:
        return self.pinned or self.recorded

    def run(self, attempts: int, pause: float) -> Download:
        if self.place.is_file() and self.expected:
            found = sha256_of_file(self.place)
            if found == self.expected:
                size = self.place.stat().st_size
                url = self.recorded_url if found == self.recorded else self.url
                self._write_record(url, found, size)
                return Download(self.place, url, found, size, "sha256", True)
        self._receive(attempts, pause)
        return self._finish()

    def _receive(self, attempts: int, pause: float) -> None:
        """Fill the `.part` file, with patience."""
        failures, total, most = 0, 0, self._num_received()
        hooks: Any = {"request": [self._check_encrypted]}
        with httpx2.Client(follow_redirects=True, timeout=self.timeout, event_hooks=hooks) as client:
            while True:
                total += 1
                try:
                    self._request(client)
                    return
                except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.TooManyRedirects) as error:
                    raise DownloadError(f"{self.url} cannot be fetched: {error}") from error
                except (httpx2.TransportError, _BusyError) as error:
                    received = self._num_received()
                    failures = failures + 1 if received <= most else 1
                    most = max(most, received)
                    if failures >= attempts or total >= attempts * _ATTEMPTS_IN_ALL:
                        raise self._given_up(error) from error
                    wait = getattr(error, "retry_after", None) or pause * 2 ** (failures - 1)
                    time.sleep(min(wait, _LONGEST_PAUSE))

    def _request(self, client: httpx2.Client) -> None:
        """One request, for what is still missing."""
        there, mark = self._num_received(), _read_record(self.part_record)
        headers = {"Accept-Encoding": "identity"}
        # Without a mark of the version nothing says that the rest would belong to the beginning.
        if there and mark.get("url") == self.url and mark.get("version"):
            headers |= {"Range": f"bytes={there}-", "If-Range": str(mark["version"])}
        with client.stream("GET", self.url, headers=headers) as response:
            start = self._check_status(response, there)
            self.size = _total_size(response, start)
            if response.status_code == 416:
                return
            self._check_room(start)
            with self.part.open("r+b" if start else "wb") as file:
                file.seek(start)
                # Bytes of an older version go before the newer one is named.
                file.truncate()
                write_json(self.part_record, {"url": self.url, "version": _version(response)})
                self.on_progress(start, self.size)
                for chunk in response.iter_raw():
                    file.write(chunk)
                    start += len(chunk)
                    self.on_progress(start, self.size)
        if self.size is not None and start < self.size:
            raise httpx2.ReadError("the answer ended early")

    def _check_encrypted(self, request: Any) -> None:
        """Called before every request, also those that a redirection leads to."""
        if self.url.lower().startswith("https:") and request.url.scheme != "https":
            raise DownloadError(
                f"{self.url} leads to {request.url.scheme}://{request.url.host}, which is not encrypted",
                hint="fetch the file elsewhere and give its path instead of the name",
            )

    def _check_status(self, response: Any, there: int) -> int:
        """The byte at which the answer starts."""
        status = response.status_code
        if status == 206:
            start, _ = _content_range(response)
            if start == there:
                return there
            raise DownloadError(f"{self.url} was answered from byte {start} instead of {there}")
        if status == 200:
            return 0
        if status == 416:
            if there and _content_range(response)[1] == there:
                return there  # it was stopped between the last byte and the move
            # The file is shorter than what is here: it is another one now.
            self._forget_part()
            raise _BusyError("the file has changed there")
        if status in _BUSY:
            raise _BusyError(f"the server answers {status}", response.headers.get("Retry-After"))
        if status in (401, 403, 404, 410):
            raise FileNotThereError(
                f"the server has no {self.url}, or shows it to nobody ({status})",
                hint="fetch the file elsewhere and give its path instead of the name",
            )
        raise DownloadError(f"{self.url} was answered with {status}", hint="give the path of a file that you have")

    def _check_room(self, start: int) -> None:
        if self.size is None:
            return
        missing, free = self.size - start, shutil.disk_usage(self.place.parent).free
        # What is there of another version is overwritten.
        free += max(0, self._num_received() - start)
        if missing > free:
            raise DiskFullError(
                f"no room on the disk for {self.place}: {missing} bytes are missing, {free} are free",
                hint="make room, or let SPEECHPROMPT_CACHE name a folder on another disk",
            )

    def _finish(self) -> Download:
        """Check what arrived, and move it into its place."""
        size, found = self._num_received(), sha256_of_file(self.part)
        if self.expected is not None and found != self.expected:
            self._forget_part()
            if self.pinned:
                raise WrongDigestError(
                    f"{self.url} has SHA-256 {found}, {self.pinned} is pinned",
                    hint="the server has another file, or something changed it on the way: do not use it",
                )
            raise WrongDigestError(
                f"{self.url} has SHA-256 {found}, an earlier download had {self.recorded} (from {self.recorded_url})",
                hint=f"it is another file; if that is as it should be, delete {self.record} and try again",
            )
        self._write_record(self.url, found, size)
        self.part.replace(self.place)
        self.part_record.unlink(missing_ok=True)
        verified: Literal["sha256", "size", "nothing"] = (
            "sha256" if self.expected else "size" if self.size is not None else "nothing"
        )
        return Download(self.place, self.url, found, size, verified, False)

    def _write_record(self, url: str, sha256: str, size: int) -> None:
        write_json(self.record, {"url": url, "sha256": sha256, "bytes": size, "pinned": self.pinned is not None})

    def _num_received(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _forget_part(self) -> None:
        self.part.unlink(missing_ok=True)
        self.part_record.unlink(missing_ok=True)

    def _given_up(self, error: Exception) -> DownloadError:
        reason = str(error) or type(error).__name__
        if there := self._num_received():
            total = "an unknown size" if self.size is None else f"{self.size}"
            return IncompleteDownloadError(
                f"{self.url} broke off after {there} bytes of {total}: {reason}",
                hint="try again: the download goes on from there",
            )
        return UnreachableError(
            f"{self.url} cannot be reached: {reason}",
            hint="check the network and the proxy, or give the path of a file that you have",
        )


class _BusyError(Exception):
    """The server asks to come back later."""

    def __init__(self, reason: str, retry_after: str | None = None) -> None:
        super().__init__(reason)
        self.retry_after = float(retry_after) if retry_after and retry_after.isdecimal() else None


def _total_size(response: Any, start: int) -> int | None:
    """The size of the whole file, as far as the answer tells."""
    if response.status_code in (206, 416):
        return _content_range(response)[1]
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdecimal() else None


def _content_range(response: Any) -> tuple[int | None, int | None]:
    """First byte and size of the file from `bytes 5-9/10`."""
    span, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    first = span.partition("-")[0]
    return int(first) if first.isdecimal() else None, int(total) if total.isdecimal() else None


def _version(response: Any) -> str | None:
    """What tells one version of the file from another: a strong entity tag, or the date of its last change."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _read_record(path: Path) -> dict[str, Any]:
    """A record, or an empty one where it is absent or damaged."""
    try:
        values = read_json(path)
    except (OSError, SpeechPromptError):
        return {}
    return values if isinstance(values, dict) else {}
