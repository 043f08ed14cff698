import hashlib

import numpy as np
import pytest
import torch

from speechprompt_hf.core.digest import sha256_of_file, sha256_of_json, sha256_of_tensors
from speechprompt_hf.core.embedded import DEFAULT_BASE, resolve_base
from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.core.files import atomic_path, read_json, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "deep" / "report.json"
    write_json(target, {"accuracy": 0.5})
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half a fi")
        raise RuntimeError("killed")
    assert read_json(target) == {"accuracy": 0.5}
    assert [path.name for path in target.parent.iterdir()] == ["report.json"]


def test_written_files_can_be_read_by_everybody(tmp_path):
    write_json(tmp_path / "a.json", 1)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o644


def test_broken_json_is_named(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{")
    with pytest.raises(ConfigurationError, match=r"config\.json is not valid JSON"):
        read_json(path)


def test_file_digest_is_sha256(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"units")
    assert sha256_of_file(path) == hashlib.sha256(b"units").hexdigest()


def test_json_digest_ignores_the_order_of_keys():
    assert sha256_of_json({"a": 1, "b": [2]}) == sha256_of_json({"b": [2], "a": 1})
    assert sha256_of_json({"a": 1}) != sha256_of_json({"a": 2})


def test_tensor_digest_depends_on_names_shapes_and_values_only():
    weight = torch.arange(6, dtype=torch.float16).reshape(2, 3)
    digest = sha256_of_tensors({"w": weight})
    assert digest == sha256_of_tensors({"w": weight.float()}) == sha256_of_tensors({"w": weight.float().numpy()})
    assert digest == sha256_of_tensors({"w": weight.t().contiguous().t()})
    others = [{"v": weight}, {"w": weight.reshape(3, 2)}, {"w": weight + 1}]
    assert len({digest, *map(sha256_of_tensors, others)}) == 4
    assert sha256_of_tensors({"i": np.array([1])}) != sha256_of_tensors({"i": np.array([1.0])})


def test_only_embedded_names_are_resolved():
    assert resolve_base("org/model") == "org/model"
    assert resolve_base(DEFAULT_BASE).endswith("default")
