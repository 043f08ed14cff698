"""What is made ready for the Hub: folders that are none, and disks without room, are named."""

import errno
import os
import tempfile

import pytest

from speechprompt_hf.core.errors import AdapterError, ConfigurationError, HubError
from speechprompt_hf.hub.card import write_base_card, write_model_card
from speechprompt_hf.hub.staging import adapter_values, is_adapter_file, is_base_file, temporary_stage


def write_base_card_of(folder):
    return write_base_card(folder, repo_id="org/base")


@pytest.mark.parametrize(
    ("read", "error", "command"),
    [
        (adapter_values, AdapterError, "speechprompt train"),
        (write_model_card, AdapterError, "speechprompt train"),
        (write_base_card_of, ConfigurationError, "speechprompt pretrain"),
    ],
)
def test_what_is_no_folder_is_named(tmp_path, read, error, command):
    (tmp_path / "file").write_text("")
    for name, message in {
        "absent": "there is no folder {}",
        "file": "{} is a file",
        "": "{} has no config.json",
    }.items():
        with pytest.raises(error) as caught:
            read(tmp_path / name)
        assert str(caught.value) == f"{message.format(tmp_path / name)} (give the folder that {command} wrote)"


def test_a_stage_is_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_stage(tmp_path / "adapter") as stage:
        (stage / "config.json").write_text("{}")
        assert stage.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_without_room_is_named_with_source_and_place(tmp_path, monkeypatch, number):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    message = f"adapter cannot be copied into {tmp_path} .*let TMPDIR name"
    with pytest.raises(HubError, match=message) as caught, temporary_stage(tmp_path / "adapter"):
        raise OSError(number, os.strerror(number))
    assert os.strerror(number) in str(caught.value) and list(tmp_path.iterdir()) == []


def test_a_machine_without_a_folder_for_temporary_files_is_told_of_room(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "absent")])
    message = r"No usable temporary directory .*make room, or let TMPDIR name"
    with pytest.raises(HubError, match=message), temporary_stage(tmp_path / "adapter"):
        pass


def test_errors_of_our_own_stay_what_they_are(tmp_path):
    with pytest.raises(HubError, match=r"^the base is not on the Hub$"), temporary_stage(tmp_path):
        raise HubError("the base is not on the Hub")


@pytest.mark.parametrize("name", ["quantizer.safetensors", "prosody_quantizer.safetensors"])
def test_both_quantizers_belong_to_a_base(name):
    assert is_base_file(name) and not is_adapter_file(name)
