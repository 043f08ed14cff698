"""Tensors of torch's files are those that torch reads; damaged and hostile files are refused."""

import io
import pickle
import zipfile
from argparse import Namespace

import pytest
import torch

from speechprompt_hf.convert.errors import ConversionError
from speechprompt_hf.convert.pickle_machine import Record
from speechprompt_hf.convert.torch_file import open_torch_file
from speechprompt_hf.convert.torch_names import LazyTensor

FORMATS = [{}, {"_use_new_zipfile_serialization": False}]
format_of_torch = pytest.mark.parametrize("options", FORMATS, ids=["zip", "legacy"])
DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)


def tensors() -> dict[str, torch.Tensor]:
    base = torch.arange(60, dtype=torch.float32).reshape(5, 12)
    made = {f"{dtype}": (10 * torch.randn(3, 4)).to(dtype) for dtype in DTYPES}
    return {
        **made,
        "whole": base,
        "transposed": base.T,
        "strided": base[1::2, ::3],
        "row": base[3],
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(torch.randn(3)),
    }


@format_of_torch
@pytest.mark.parametrize("protocol", [2, 4])
def test_tensors_are_those_of_torch(tmp_path, options, protocol):
    path = tmp_path / "x.pt"
    torch.save({"model": tensors(), "args": Namespace(a=1)}, path, pickle_protocol=protocol, **options)
    expected = torch.load(path, weights_only=False)["model"]
    with open_torch_file(path) as file:
        assert isinstance(file.content["args"], Record)
        assert file.content["model"].keys() == expected.keys()
        for name, tensor in expected.items():
            lazy = file.content["model"][name]
            assert isinstance(lazy, LazyTensor) and lazy.dtype == tensor.dtype
            read = file.read(lazy)
            assert read.shape == tensor.shape and torch.equal(read, tensor), name


@format_of_torch
def test_a_planted_call_is_refused_and_does_not_run(tmp_path, options, trap, would_run):
    content = {"model": {"weight": torch.zeros(2)}, "args": trap.planted}
    torch.save(content, tmp_path / "x.pt", **options)
    assert would_run(pickle.dumps(content["args"]))
    with pytest.raises(ConversionError, match=trap.name), open_torch_file(tmp_path / "x.pt"):
        pass
    assert not trap.mark.exists()


@format_of_torch
def test_nested_pickles_are_refused(tmp_path, options, call_of):
    torch.save([call_of(torch.storage._load_from_bytes, b"x")], tmp_path / "x.pt", **options)
    with pytest.raises(ConversionError, match="_load_from_bytes"), open_torch_file(tmp_path / "x.pt"):
        pass


def with_entries(path, change):
    """Write the archive again with its entries changed: name → bytes."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    kind = change(entries) or zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda entries: zipfile.ZIP_DEFLATED, "compressed"),
        (lambda entries: entries.update({"x/data/0": b"123"}), "has 3 bytes, its tensor needs 24"),
        (lambda entries: entries.pop("x/data/0") and None, "lacks x/data/0"),
        (lambda entries: entries.update({"x/byteorder": b"big"}), "byte order"),
        (lambda entries: entries.update({"y/data.pkl": b"N."}), "2 entries data.pkl"),
        (lambda entries: entries.pop("x/data.pkl") and None, "0 entries data.pkl"),
        (lambda entries: entries.update({"x/data.pkl": entries["x/data.pkl"] + b"x"}), "goes on"),
    ],
)
def test_changed_archives_are_refused(tmp_path, change, words):
    path = tmp_path / "x.pt"
    torch.save([torch.zeros(2, 3)], path)
    with_entries(path, lambda entries: None)
    with open_torch_file(path) as file:
        assert torch.equal(file.read(file.content[0]), torch.zeros(2, 3))
    with_entries(path, change)
    with pytest.raises(ConversionError, match=words), open_torch_file(path) as file:
        file.read(file.content[0])


def test_a_flipped_bit_in_an_archive_is_seen(tmp_path):
    path = tmp_path / "x.pt"
    torch.save([torch.full((100,), 1.5)], path)
    content = path.read_bytes()
    place = content.index(torch.full((100,), 1.5).numpy().tobytes()) + 41
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(ConversionError, match="CRC"), open_torch_file(path) as file:
        file.read(file.content[0])


def test_two_entries_of_one_name_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    torch.save([torch.zeros(2)], path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x/data.pkl", b"N.")
    with pytest.raises(ConversionError, match="two of one name"), open_torch_file(path):
        pass


@format_of_torch
def test_truncated_files_are_refused(tmp_path, options):
    path = tmp_path / "x.pt"
    torch.save({"a": torch.randn(50), "b": torch.randn(3)}, path, **options)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), max(1, len(whole) // 80)), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ConversionError), open_torch_file(path) as file:
            [file.read(tensor) for tensor in file.content.values()]


def test_legacy_files_that_go_on_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    torch.save([torch.zeros(3)], path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ConversionError, match="goes on"), open_torch_file(path):
        pass


def tensor_pickle(numel=b"K\x06", offset=b"K\x00", shape=b"K\x02K\x03\x86", stride=b"K\x03K\x01\x86"):
    """`_rebuild_tensor_v2(storage, offset, shape, stride)` by hand."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + numel + b"tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + stride + b"\x89}tR."


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"offset": b"K\x01"}, "reaches beyond"),
        ({"offset": b"J\xff\xff\xff\xff"}, "impossible"),
        ({"stride": b"J\xff\xff\xff\xffK\x01\x86"}, "impossible"),
        ({"shape": b"K\x02K\x04\x86"}, "reaches beyond"),
        ({"shape": b"K\x02K\x03K\x01\x87"}, "impossible"),
        ({"shape": b"J\x00\x00\x00\x7fJ\x00\x00\x00\x7f\x86", "stride": b"K\x00K\x00\x86"}, "reaches beyond"),
        ({"shape": b"X\x01\x00\x00\x00aK\x03\x86"}, "impossible"),
        ({"shape": b"K\x02"}, "no tuple"),
        ({"numel": b"J\xff\xff\xff\xff"}, "no usable size"),
    ],
)
def test_impossible_tensors_are_refused(loads_inert, parts, words):
    assert loads_inert(tensor_pickle()).shape == (2, 3)
    with pytest.raises(ConversionError, match=words):
        loads_inert(tensor_pickle(**parts))


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"PK\x03\x04", pickle.dumps({"model": 1}), b"\x80"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(ConversionError, match=r"x\.pt"), open_torch_file(tmp_path / "x.pt"):
        pass


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ConversionError, match="no file"), open_torch_file(tmp_path / "absent.pt"):
        pass


def test_storages_of_unknown_types_are_refused(tmp_path):
    buffer = io.BytesIO()
    torch.save([torch.zeros(2, dtype=torch.complex64)], buffer)
    (tmp_path / "x.pt").write_bytes(buffer.getvalue())
    with pytest.raises(ConversionError, match="ComplexFloatStorage"), open_torch_file(tmp_path / "x.pt"):
        pass


def legacy_file(magic=0x1950A86A20F9469CFC6C, version=1001, little_endian=True, content=None, keys=("0",), sizes=(6,)):
    """A file of the older format by hand: one float32 tensor of shape (2, 3)."""
    system = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {}}
    parts = [pickle.dumps(part, 2) for part in (magic, version, system)]
    parts += [b"\x80\x02" + (content or tensor_pickle()), pickle.dumps(list(keys), 2)]
    parts += [size.to_bytes(8, "little") + bytes(4 * size) for size in sizes]
    return b"".join(parts)


TWO_TYPES = tensor_pickle()[:-1] + tensor_pickle().replace(b"FloatStorage", b"HalfStorage")[:-1] + b"\x86."


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"magic": 7}, "no file of torch.save"),
        ({"version": 1000}, "no file of torch.save"),
        ({"little_endian": False}, "byte order"),
        ({"sizes": (7,)}, "has 7 numbers, its tensor needs 6"),
        ({"keys": ("1",)}, "no tensor uses"),
        ({"keys": ("0", "0"), "sizes": (6, 6)}, "one twice"),
        ({"keys": (), "sizes": ()}, "lacks the storage 0"),
        ({"content": TWO_TYPES}, "two types or sizes"),
        ({"content": tensor_pickle().replace(b"cpu" + b"K\x06tQ", b"cpu" + b"K\x06)tQ")}, "view of another"),
        ({"content": tensor_pickle().replace(b"storage", b"modules")}, "no storage of torch"),
        ({"content": tensor_pickle().replace(b"X\x01\x00\x00\x000", b"K\x00")}, "no usable size"),
        ({"content": b"ctorch._utils\n_rebuild_tensor_v2\nK\x00\x85R."}, "something else than a storage"),
        ({"content": b"ctorch._utils\n_rebuild_parameter\nK\x00\x85R."}, "something that is no tensor"),
    ],
)
def test_damaged_files_of_the_older_format_are_refused(tmp_path, parts, words):
    path = tmp_path / "x.pt"
    path.write_bytes(legacy_file())
    with open_torch_file(path) as file:
        assert torch.equal(file.read(file.content), torch.zeros(2, 3))
    path.write_bytes(legacy_file(**parts))
    with pytest.raises(ConversionError, match=words), open_torch_file(path) as file:
        file.read(file.content)
