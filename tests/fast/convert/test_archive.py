"""Archives: the wanted file comes out whole, everything hostile or damaged is one kind of error."""

import gzip
import io
import random
import tarfile
import zipfile

import pytest
import torch

from speechprompt_hf.convert.archive import extract, is_archive, list_members
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
