import pytest
from safetensors import deserialize

from speechprompt_hf.core.errors import AdapterError, AudioError, ConfigurationError
from speechprompt_hf.core.locations import is_hub_id, looks_like_a_path, reading


@pytest.mark.parametrize("name", ["/a", "./a", "../a", "~/a", "a/b/c", "a/"])
def test_paths_are_told_from_ids(name):
    assert looks_like_a_path(name)
    assert not looks_like_a_path("name") and not looks_like_a_path("organisation/name")


def test_an_absent_folder_is_named(tmp_path):
    words = r"there is no folder .*absent for the adapter"
    with pytest.raises(AdapterError, match=words), reading(tmp_path / "absent", AdapterError, "the adapter"):
        raise AssertionError("nothing may be read")


def test_foreign_errors_become_one_line_and_ours_pass(tmp_path):
    words = "the base organisation/name cannot be loaded: no connection"
    with pytest.raises(ConfigurationError, match=words), reading("organisation/name", ConfigurationError, "the base"):
        raise OSError("\nno connection\nand much more")
    with pytest.raises(AudioError), reading(tmp_path, ConfigurationError, "the base"):
        raise AudioError("a recording")
    with pytest.raises(KeyError), reading(tmp_path, ConfigurationError, "the base"):
        raise KeyError("a defect")


def test_damaged_weights_are_told_from_absent_ones(tmp_path):
    words = r"the base .* cannot be loaded: .*header"
    with pytest.raises(AdapterError, match=words) as caught, reading(tmp_path, AdapterError, "the base"):
        deserialize(b"no tensors")
    assert "damaged" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "alone", "whole"),
    [
        ("org/name", True, True),
        ("name", True, False),
        ("org/na.me_1-2", True, True),
        ("", False, False),
        (None, False, False),
        ("a/b/c", False, False),
        ("/a", False, False),
        ("org/", False, False),
        ("org/a b", False, False),
        ("org/a--b", False, False),
        ("org/a.git", False, False),
    ],
)
def test_hub_ids(name, alone, whole):
    assert is_hub_id(name) == whole
    assert is_hub_id(name, with_organisation=False) == alone
