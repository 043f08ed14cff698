"""Downloads from a server that fails in every way: what arrives is whole and verified, or an error says why not."""

import hashlib
import json
import threading
from pathlib import Path

import pytest

from speechprompt_hf.convert import download as module
from speechprompt_hf.convert.download import download
from speechprompt_hf.convert.download_errors import (
    DiskFullError,
    DownloadError,
    FileNotThereError,
    IncompleteDownloadError,
    UnreachableError,
    WrongDigestError,
)
from tests.fixtures.file_server import FileServer, Response

CONTENT = bytes(range(256)) * 20_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


@pytest.fixture
def server():
    with FileServer({"/a/km.bin": CONTENT}) as server:
        yield server


@pytest.fixture
def fetch(server, tmp_path):
    def run(path="/a/km.bin", **options):
        return download(f"{server.url}{path}", tmp_path / "cache" / "km.bin", pause=0.001, **options)

    return run


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_a_file_arrives_whole_with_a_record(fetch, server, tmp_path):
    done = fetch()
    assert done.path.read_bytes() == CONTENT
    assert (done.sha256, done.num_bytes, done.verified, done.was_there) == (DIGEST, len(CONTENT), "size", False)
    assert left_in(tmp_path / "cache") == {"km.bin", "km.bin.json"}
    record = json.loads((tmp_path / "cache" / "km.bin.json").read_text())
    assert record == {"url": f"{server.url}/a/km.bin", "sha256": DIGEST, "bytes": len(CONTENT), "pinned": False}


def test_a_file_that_is_there_is_not_asked_for(fetch, server):
    fetch()
    again = fetch()
    assert len(server.requests) == 1
    assert (again.was_there, again.verified) == (True, "sha256")


def test_a_pinned_digest_is_verified(fetch):
    assert fetch(sha256=DIGEST.upper()).verified == "sha256"


def test_a_wrong_digest_is_refused_and_the_file_deleted(fetch, tmp_path):
    with pytest.raises(WrongDigestError, match=f"has SHA-256 {DIGEST}, {'0' * 64} is pinned.*do not use it"):
        fetch(sha256="0" * 64)
    assert left_in(tmp_path / "cache") == set()


def test_a_damaged_file_is_fetched_again(fetch, server, tmp_path):
    fetch()
    (tmp_path / "cache" / "km.bin").write_bytes(CONTENT[:-1] + b"x")
    assert fetch().path.read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_file_that_was_changed_there_is_refused_until_its_record_is_deleted(fetch, server, tmp_path):
    fetch()
    record = tmp_path / "cache" / "km.bin.json"
    (tmp_path / "cache" / "km.bin").unlink()
    server.files["/a/km.bin"] = b"another model"
    with pytest.raises(WrongDigestError, match=rf"an earlier download had {DIGEST}.*delete .*km.bin.json"):
        fetch()
    record.unlink()
    assert fetch().path.read_bytes() == b"another model"


def test_a_record_counts_for_every_server(fetch, server, tmp_path):
    fetch()
    place, record = tmp_path / "cache" / "km.bin", tmp_path / "cache" / "km.bin.json"
    before = record.read_text()
    server.files["/mirror/km.bin"] = b"another model"
    # What is there is used again, and stays recorded as coming from where it came.
    again = fetch("/mirror/km.bin")
    assert (again.was_there, again.url, again.verified) == (True, f"{server.url}/a/km.bin", "sha256")
    assert (place.read_bytes(), record.read_text()) == (CONTENT, before)
    for damage in (lambda: place.write_bytes(CONTENT[:-1]), place.unlink):
        damage()
        words = rf"an earlier download had {DIGEST} \(from {server.url}/a/km\.bin\).*delete .*km\.bin\.json"
        with pytest.raises(WrongDigestError, match=words):
            fetch("/mirror/km.bin")
        assert record.read_text() == before
    server.files["/mirror/km.bin"] = CONTENT
    done = fetch("/mirror/km.bin")
    assert (done.verified, done.was_there, done.url) == ("sha256", False, f"{server.url}/mirror/km.bin")


def test_a_dropped_connection_is_resumed_where_it_broke(fetch, server):
    server.next = [Response(stop_after=HALF), Response(stop_after=1000)]
    seen = []
    done = fetch(on_progress=lambda there, total: seen.append((there, total)))
    assert done.sha256 == DIGEST
    assert [wanted for _, wanted in server.requests] == [None, f"bytes={HALF}-", f"bytes={HALF + 1000}-"]
    assert seen == sorted(seen) and seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT))


def test_what_arrived_is_kept_for_the_next_call(fetch, server, tmp_path):
    server.next = [Response(stop_after=HALF), *[Response(stop_after=0)] * 3]
    with pytest.raises(IncompleteDownloadError, match=rf"after {HALF} bytes of {len(CONTENT)}: .*goes on from there"):
        fetch()
    assert left_in(tmp_path / "cache") == {"km.bin.part", "km.bin.part.json"}
    server.requests.clear()
    assert fetch().sha256 == DIGEST
    assert server.requests == [("/a/km.bin", f"bytes={HALF}-")]


def test_a_part_of_an_older_version_is_thrown_away(fetch, server):
    server.next = [Response(stop_after=HALF), *[Response(stop_after=0)] * 3]
    with pytest.raises(IncompleteDownloadError):
        fetch()
    server.files["/a/km.bin"] = changed = CONTENT[::-1]
    assert fetch().path.read_bytes() == changed


def test_a_longer_part_than_the_file_is_thrown_away(fetch, server, tmp_path):
    fetch()
    (tmp_path / "cache" / "km.bin").rename(tmp_path / "cache" / "km.bin.part")
    (tmp_path / "cache" / "km.bin.json").unlink()
    with (tmp_path / "cache" / "km.bin.part").open("ab") as file:
        file.write(b"more")
    record = {"url": f"{server.url}/a/km.bin", "version": f'"{hash(CONTENT):x}"'}
    (tmp_path / "cache" / "km.bin.part.json").write_text(json.dumps(record))
    assert fetch().sha256 == DIGEST


def test_a_part_that_is_whole_is_only_moved(fetch, server, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "km.bin.part").write_bytes(CONTENT)
    record = {"url": f"{server.url}/a/km.bin", "version": f'"{hash(CONTENT):x}"'}
    (tmp_path / "cache" / "km.bin.part.json").write_text(json.dumps(record))
    assert fetch(sha256=DIGEST).num_bytes == len(CONTENT)
    assert server.requests == [("/a/km.bin", f"bytes={len(CONTENT)}-")]


def test_a_part_without_a_version_is_fetched_anew(fetch, server):
    server.tags = False
    server.next = [Response(stop_after=HALF)]
    assert fetch().sha256 == DIGEST
    assert [wanted for _, wanted in server.requests] == [None, None]


def test_a_server_without_ranges_is_fetched_anew(fetch, server):
    server.ranges = False
    server.next = [Response(stop_after=HALF)]
    assert fetch().sha256 == DIGEST
    assert [wanted for _, wanted in server.requests] == [None, f"bytes={HALF}-"]


def test_a_server_without_ranges_that_breaks_always_is_given_up(fetch, server):
    server.ranges = False
    server.next = [Response(stop_after=HALF)] * 20
    with pytest.raises(IncompleteDownloadError):
        fetch()
    assert len(server.requests) == 4


def test_a_server_without_ranges_that_breaks_here_and_there_is_given_up(fetch, server):
    server.ranges = False
    server.next = [Response(stop_after=HALF), Response(stop_after=10), Response(stop_after=20)] * 20
    with pytest.raises(IncompleteDownloadError):
        fetch()
    assert len(server.requests) == 4


def test_a_server_that_gives_a_byte_at_a_time_is_given_up(fetch, server, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    server.next = [Response(stop_after=1)] * 200
    with pytest.raises(IncompleteDownloadError, match=r"broke off after 50 bytes of .*goes on from there"):
        fetch(attempts=2)
    assert len(server.requests) == 50


def test_an_answer_from_another_place_than_asked_is_refused(fetch, server, tmp_path):
    server.next = [Response(stop_after=HALF), Response(headers={"Content-Range": f"bytes 7-{len(CONTENT) - 1}/*"})]
    with pytest.raises(DownloadError, match=f"from byte 7 instead of {HALF}"):
        fetch()


def test_without_a_length_nothing_is_verified(fetch, server):
    server.lengths = False
    assert fetch().verified == "nothing"


def test_without_a_length_a_pinned_digest_tells_a_short_file(fetch, server):
    server.lengths = False
    server.next = [Response(stop_after=HALF)]
    with pytest.raises(WrongDigestError):
        fetch(sha256=DIGEST)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_missing_file_is_said_at_once(fetch, server, tmp_path, status):
    server.next = [Response(status=status)]
    with pytest.raises(
        FileNotThereError, match=rf"has no .*km\.bin, or shows it to nobody \({status}\).*give its path"
    ):
        fetch()
    assert len(server.requests) == 1
    assert left_in(tmp_path / "cache") == set()


def test_a_busy_server_is_asked_again(fetch, server):
    server.next = [Response(status=503), Response(status=429, headers={"Retry-After": "0"})]
    assert fetch().sha256 == DIGEST


def test_a_server_that_stays_busy_is_given_up(fetch, server):
    server.next = [Response(status=503)] * 9
    with pytest.raises(UnreachableError, match=r"cannot be reached: the server answers 503.*proxy"):
        fetch()


def test_another_status_is_named(fetch, server):
    server.next = [Response(status=418)]
    with pytest.raises(DownloadError, match="answered with 418"):
        fetch()


def test_nobody_listening_is_unreachable(tmp_path):
    with pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:9/x cannot be reached.*check the network"):
        download("http://127.0.0.1:9/x", tmp_path / "x", attempts=2, pause=0.001)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "http://[::1/x", "nothing"])
def test_impossible_addresses_are_refused(tmp_path, url):
    with pytest.raises(DownloadError, match="cannot be fetched"):
        download(url, tmp_path / "x")


def test_redirections_are_followed_and_endless_ones_refused(fetch, server, tmp_path):
    server.files["/old"] = b""
    server.next = [Response(status=302, headers={"Location": "/a/km.bin"})]
    assert fetch("/old").sha256 == DIGEST
    server.next = [Response(status=302, headers={"Location": "/old2"})] * 40
    with pytest.raises(DownloadError, match="cannot be fetched"):
        download(f"{server.url}/old2", tmp_path / "other", pause=0.001)


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
@pytest.mark.parametrize("back", [False, True])
def test_an_encrypted_address_does_not_lead_over_an_open_one(tmp_path, monkeypatch, scheme, back):
    import httpx2

    asked = []

    def answer(request):
        asked.append(str(request.url))
        if request.url.host == "server":
            return httpx2.Response(302, headers={"Location": "http://elsewhere/x"})
        if request.url.scheme == "http" and back:
            return httpx2.Response(302, headers={"Location": "https://attacker/x"})
        return httpx2.Response(200, content=CONTENT)

    client = httpx2.Client
    monkeypatch.setattr(
        module.httpx2, "Client", lambda **options: client(transport=httpx2.MockTransport(answer), **options)
    )
    with pytest.raises(DownloadError, match=r"leads to http://elsewhere, which is not encrypted"):
        download(f"{scheme}://server/x", tmp_path / "x")
    assert asked == ["https://server/x"]
    assert left_in(tmp_path) == set()


def test_too_little_room_is_said_before_anything_is_fetched(fetch, monkeypatch, tmp_path):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(DiskFullError, match=f"{len(CONTENT)} bytes are missing, 100 are free.*SPEECHPROMPT_CACHE"):
        fetch()
    assert not (tmp_path / "cache" / "km.bin").exists()


def test_a_full_disk_keeps_what_arrived(fetch, server, tmp_path):
    resource = pytest.importorskip("resource", reason="needs POSIX limits")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    try:
        with pytest.raises(DiskFullError, match=r"no room on the disk for .*then the download goes on"):
            fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    there = (tmp_path / "cache" / "km.bin.part").stat().st_size
    assert 0 < there <= 2_000_000
    assert fetch().sha256 == DIGEST
    assert server.requests[-1] == ("/a/km.bin", f"bytes={there}-")


def test_a_folder_that_cannot_be_written_is_an_ordinary_error(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file") as caught:
        download(f"{server.url}/a/km.bin", tmp_path / "file" / "km.bin")
    assert not isinstance(caught.value, DownloadError)


def test_two_at_once_fetch_once(fetch, server):
    results = []
    threads = [threading.Thread(target=lambda: results.append(fetch())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [done.sha256 for done in results] == [DIGEST] * 3
    assert len(server.requests) == 1


def test_a_damaged_record_counts_as_none(fetch, server, tmp_path):
    fetch()
    (tmp_path / "cache" / "km.bin.json").write_text("{")
    assert fetch().was_there is False
    (tmp_path / "cache" / "km.bin.json").write_text("[1]")
    assert fetch().was_there is False
    assert len(server.requests) == 3
