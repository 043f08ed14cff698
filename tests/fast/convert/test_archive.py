"""Archives: the wanted file comes out whole, everything hostile or damaged is one kind of error."""

import gzip
import io
import random
import struct
import tarfile
import tracemalloc
import zipfile

import pytest
import torch

from speechprompt_hf.convert import archive as module
from speechprompt_hf.convert.archive import extract, is_archive, list_members
from speechprompt_hf.convert.download_errors import DiskFullError
from speechprompt_hf.convert.errors import ConversionError
from tests.fixtures.archives import tar_of, zip_of

WEIGHTS, DICTIONARY = random.Random(0).randbytes(3_000_001), b"0 5\n1 3\n"
WANTED = {"checkpoint": ("checkpoint_best.pt", "*.pt"), "companion": ("dict.txt",)}


PAIR = [("hubert100_lm/checkpoint_best.pt", WEIGHTS), ("hubert100_lm/dict.txt", DICTIONARY)]
KINDS = {
    "lm.tgz": tar_of(PAIR),
    "lm.tar": tar_of(PAIR, "w"),
    "lm.zip": zip_of(PAIR),
    "stored.zip": zip_of(PAIR, zipfile.ZIP_STORED),
}


@pytest.fixture
def written(tmp_path):
    def write(content, name="lm.tgz"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_the_wanted_files_come_out_whole_and_nothing_else(written, out, name):
    path = written(KINDS[name], name)
    assert is_archive(path)
    found = extract(path, WANTED, out)
    assert found["checkpoint"].read_bytes() == WEIGHTS
    assert found["companion"].read_bytes() == DICTIONARY
    assert sorted(path for path in out.rglob("*") if path.is_file()) == sorted(found.values())
    assert [member.num_bytes for member in list_members(path)] == [len(WEIGHTS), len(DICTIONARY)]


def test_the_first_pattern_that_fits_decides(written, out):
    path = written(tar_of([("a/checkpoint_last.pt", b"last"), ("a/checkpoint_best.pt", b"best")]))
    found = extract(path, WANTED, out)
    assert found["checkpoint"].read_bytes() == b"best"
    assert "companion" not in found


def test_several_that_fit_are_named(written, out):
    path = written(tar_of([("a/1.pt", b"1"), ("b/2.pt", b"2")]))
    with pytest.raises(ConversionError, match=r"holds 2 files \*\.pt: a/1\.pt, b/2\.pt.*unpack it"):
        extract(path, WANTED, out)


def test_files_of_attributes_are_no_files(written, out):
    path = written(tar_of([("._dict.txt", b"attributes"), ("dict.txt", DICTIONARY)]))
    assert extract(path, WANTED, out)["companion"].read_bytes() == DICTIONARY


@pytest.mark.parametrize("start", ["../../../", "/", "a/../../", "C:\\x\\", "..\\..\\", "./" * 200])
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_no_path_of_an_archive_is_followed(written, out, tmp_path, make, start):
    name = "lm.tgz" if make is tar_of else "lm.zip"
    path = written(make([(f"{start}dict.txt", DICTIONARY), (f"{start}evil.txt", b"evil")]), name)
    found = extract(path, WANTED, out)
    assert found["companion"].read_bytes() == DICTIONARY and out in found["companion"].parents
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {name, "dict.txt"}


@pytest.mark.parametrize("name", ["..", ".pt", "a b.pt", "x" * 200 + ".pt", "\u202egnp.pt", "-rf.pt"])
def test_odd_names_are_not_kept(written, out, name):
    path = written(tar_of([(f"a/{name}", b"x")]))
    found = extract(path, {"checkpoint": ("*",)}, out)
    assert {file.name for file in found.values()} <= {"checkpoint"}


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE],
)
def test_links_devices_and_folders_are_never_a_wanted_file(written, out, kind):
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, "/etc/passwd"
    path = written(tar_of([("dict.txt", info), ("other", b"x")]))
    assert extract(path, WANTED, out) == {}
    assert [member.name for member in list_members(path)] == ["other"]


def test_a_link_and_then_a_file_of_its_name_write_only_the_file(written, out, tmp_path):
    link = tarfile.TarInfo()
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
    path = written(tar_of([("dict.txt", link), ("dict.txt", DICTIONARY)]))
    assert extract(path, WANTED, out)["companion"].read_bytes() == DICTIONARY
    assert not (tmp_path / "outside").exists()


def test_links_in_zip_archives_are_left_out(written):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("dict.txt")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
        archive.mkdir("folder")
    assert list_members(written(stream.getvalue(), "lm.zip")) == ()


@pytest.mark.parametrize("name", KINDS)
def test_an_archive_that_unpacks_to_too_much_is_refused(written, out, name):
    path = written(KINDS[name], name)
    with pytest.raises(ConversionError, match="unpacks to more than 1000000 bytes"):
        extract(path, WANTED, out, max_bytes=1_000_000)


def test_a_header_that_asks_for_gigabytes_is_refused_before_it_is_read(written):
    info = tarfile.TarInfo("PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 2**32
    bomb = gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + bytes(2**22))
    with pytest.raises(ConversionError, match=f"has a header of {2**32} bytes"):
        list_members(written(bomb))


def header(name, kind, size=0):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def blocks(content):
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def attribute(key, value):
    length = len(key) + len(value) + 3
    while len(str(length)) + len(key) + len(value) + 3 != length:
        length = len(str(length)) + len(key) + len(value) + 3
    return f"{length} {key}={value}\n".encode()


def extended(content, kind=tarfile.XHDTYPE):
    return header("long", kind, len(content)) + blocks(content)


END = bytes(10240)
LONG = attribute("comment", "x" * 500_000)


@pytest.mark.parametrize(
    "one", [extended(LONG), extended(b"a/" * 250_000, tarfile.GNUTYPE_LONGNAME), extended(LONG, tarfile.XGLTYPE)]
)
def test_the_headers_of_an_archive_are_limited_over_all(written, one):
    path = written(gzip.compress((one + header("x", tarfile.REGTYPE)) * 60 + END))
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    with pytest.raises(ConversionError, match=f"has headers of more than {2**24} bytes.*unpack it yourself"):
        list_members(path)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_the_headers_of_one_file_are_limited(written):
    chain = extended(LONG) * 3 + header("x", tarfile.REGTYPE)
    with pytest.raises(ConversionError, match=f"has headers of more than {2**20} bytes"):
        list_members(written(gzip.compress(chain + END)))


def test_the_attributes_of_an_archive_are_limited(written):
    content = extended(b"".join(attribute(f"k{index}", "") for index in range(101)), tarfile.XGLTYPE)
    with pytest.raises(ConversionError, match="more than 100 attributes"):
        list_members(written(gzip.compress(content + header("x", tarfile.REGTYPE) + END)))


def test_long_names_are_listed_short_and_found(written, out):
    long_path = "folder/" * 1000
    path = written(tar_of([(f"{long_path}dict.txt", DICTIONARY), ("x" * 100_000, b"")]))
    assert extract(path, WANTED, out)["companion"].read_bytes() == DICTIONARY
    assert [(len(member.path), len(member.name)) for member in list_members(path)] == [(200, 8), (200, 255)]


def test_no_header_is_kept_while_an_archive_is_read(written):
    # Many files, each with attributes that count for nothing.
    one = extended(attribute("comment", "x" * 1000)) + header("x", tarfile.REGTYPE)
    path = written(gzip.compress(one * 1500 + END))
    tracemalloc.start()
    assert len(list_members(path)) == 1500
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        *(
            (kind, size)
            for kind in (tarfile.REGTYPE, tarfile.GNUTYPE_SPARSE)
            for size in (-1536, -1024, -512, -(2**40))
        ),
        (tarfile.REGTYPE, -1),
        (tarfile.DIRTYPE, -512),
    ],
)
@pytest.mark.parametrize("name", ["lm.tar", "lm.tgz"])
def test_sizes_below_zero_are_damage(written, out, name, kind, size):
    content = blocks(DICTIONARY)
    for start in (b"", header("a.txt", tarfile.REGTYPE, len(DICTIONARY)) + content):
        archive = start + header("dict.txt", kind, size) + content + END
        path = written(gzip.compress(archive) if name == "lm.tgz" else archive, name)
        for read in (list_members, lambda path: extract(path, WANTED, out)):
            with pytest.raises(ConversionError, match=r"dict\.txt' has an impossible size .*damaged"):
                read(path)


@pytest.mark.parametrize("size", [-1536, -512])
def test_attributes_that_lead_back_are_damage(written, size):
    content = extended(attribute("size", str(size))) + header("dict.txt", tarfile.REGTYPE, 8) + blocks(DICTIONARY)
    with pytest.raises(ConversionError, match="has an impossible size"):
        list_members(written(content + END, "lm.tar"))


def test_a_sparse_file_that_leads_back_is_damage(written):
    # Its size on disk is negative, the one that is announced is not.
    block = bytearray(header("dict.txt", tarfile.GNUTYPE_SPARSE, -512))
    block[483:495] = b"00000001000\0"
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    with pytest.raises(ConversionError, match="has an impossible size"):
        list_members(written(bytes(block) + END, "lm.tar"))


def test_an_impossible_place_in_a_zip_is_damage(written, out):
    content = bytearray(zip_of([("dict.txt", DICTIONARY)]))
    end = content.rindex(b"PK\x05\x06")
    # Where the directory starts, as if more stood before the archive.
    content[end + 16 : end + 20] = struct.pack("<I", len(content) + 5000)
    with pytest.raises(ConversionError, match="is no whole archive"):
        extract(written(bytes(content), "lm.zip"), WANTED, out)


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_too_little_room_is_said_before_anything_is_unpacked(written, out, monkeypatch, make):
    path = written(make([("a/checkpoint_best.pt", bytes(5_000_000)), ("dict.txt", DICTIONARY)]))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 5_000_000}))
    words = rf"to unpack .*lm\.tgz into {out}: 5000008 bytes are needed, 5000000 are free.*make room"
    with pytest.raises(DiskFullError, match=words):
        extract(path, WANTED, out)
    assert not any(out.iterdir())
    assert extract(path, {"companion": ("dict.txt",)}, out)["companion"].read_bytes() == DICTIONARY


def test_damage_in_a_zip_shows_when_it_is_unpacked(written, out):
    content = bytearray(zip_of(PAIR, zipfile.ZIP_STORED))
    content[5000] ^= 1
    path = written(bytes(content), "lm.zip")
    assert len(list_members(path)) == 2
    with pytest.raises(ConversionError, match=r"Bad CRC-32.*damaged"):
        extract(path, WANTED, out)


def test_a_sparse_file_is_left_out(written):
    info = tarfile.TarInfo("dict.txt")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    assert list_members(written(gzip.compress(info.tobuf() + bytes(10240)))) == ()


def test_too_many_files_are_refused(written, monkeypatch):
    monkeypatch.setattr("speechprompt_hf.convert.archive._MAX_MEMBERS", 5)
    for make, name in ((tar_of, "lm.tgz"), (zip_of, "lm.zip")):
        path = written(make([(str(index), b"") for index in range(6)]), name)
        with pytest.raises(ConversionError, match="more than 5 files"):
            list_members(path)


def test_a_size_that_is_not_true_is_refused(written, out):
    content = bytearray(zip_of([("dict.txt", DICTIONARY)], zipfile.ZIP_STORED))
    place = content.rindex(b"PK\x01\x02") + 24
    content[place : place + 4] = (3).to_bytes(4, "little")
    with pytest.raises(ConversionError):
        extract(written(bytes(content), "lm.zip"), WANTED, out)


def test_an_encrypted_archive_is_refused(written, out):
    content = bytearray(zip_of([("dict.txt", DICTIONARY)]))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    with pytest.raises(ConversionError, match=r"is no whole archive.*encrypted"):
        extract(written(bytes(content), "lm.zip"), WANTED, out)


@pytest.mark.parametrize("name", KINDS)
def test_truncated_archives_are_refused_wherever_they_end(written, out, name):
    whole = KINDS[name]
    generator = random.Random(1)
    # The end of a tar is blocks of zeros, which nothing needs.
    longest = len(whole) - (20_000 if name == "lm.tar" else 1)
    for length in [4, 300, 600, *generator.sample(range(1000, longest), 8), longest]:
        path = written(whole[:length], name)
        with pytest.raises(ConversionError, match=r"damaged|no whole archive"):
            list_members(path)
            raise AssertionError(f"{length} of {len(whole)} bytes were read as a whole archive")


@pytest.mark.parametrize("name", ["lm.tgz", "lm.zip"])
def test_changed_bytes_are_found(written, out, name):
    generator = random.Random(2)
    for place in generator.sample(range(100, len(WEIGHTS)), 6):
        content = bytearray(KINDS[name])
        content[place] ^= 0xFF
        with pytest.raises(ConversionError):
            extract(written(bytes(content), name), WANTED, out)
        for file in out.rglob("*"):
            if file.is_file():
                file.unlink()
        for folder in out.iterdir():
            folder.rmdir()


def test_random_bytes_after_a_true_start_never_raise_another_error(written):
    generator = random.Random(3)
    for name, content in KINDS.items():
        for _ in range(12):
            damaged = bytearray(content[: generator.randrange(20, 4000)])
            for _ in range(20):
                damaged[generator.randrange(4, len(damaged))] = generator.randrange(256)
            path = written(bytes(damaged), name)
            try:
                list_members(path)
            except ConversionError:
                continue


def test_checkpoints_and_compressed_pickles_are_no_archives(written, tmp_path):
    torch.save({"model": {}}, tmp_path / "checkpoint.pt")
    assert not is_archive(tmp_path / "checkpoint.pt")
    torch.save({"model": {}}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert not is_archive(tmp_path / "old.pt")
    for content in (
        b"",
        b"PK\x03\x04 no zip",
        b"\x1f\x8b no gzip",
        gzip.compress(b"\x80\x04 pickle" * 100),
        b"x" * 512,
    ):
        assert not is_archive(written(content))
