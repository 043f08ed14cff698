"""The folder of generated speech: names of any bytes, runs that were killed, and files of others."""

import json
import os

import numpy as np
import pytest

from speechprompt_hf.core.errors import AudioValueError, ConfigurationError
from speechprompt_hf.generation.output_folder import OutputFolder

WAVE = np.zeros(10, np.float32)
FACTS = [{"sha256": "s"}]


def names(folder):
    return sorted(path.name for path in folder.glob("[!.]*.wav"))


def killed(folder, *files, made_with=1):
    """A run that makes these and never gets to its end."""
    run = OutputFolder(folder, {"a": made_with})
    run.__enter__()
    for file in files:
        run.write(file, [WAVE], 16000, FACTS)
    run._lock.release()


@pytest.mark.parametrize("name", ["/x/caf\udce9.wav", "/x/a\u2028b.wav", "/x/a\x85b.wav", "/x/a\nb.wav"], ids=ascii)
def test_names_of_any_bytes_are_found_again(tmp_path, name):
    with OutputFolder(tmp_path, {"a": 1}) as folder:
        lines = folder.write(name, [WAVE], 16000, FACTS)
    with OutputFolder(tmp_path, {"a": 1}) as folder:
        assert folder.done(name, "s") == lines and folder.done(name, "other") is None


def test_what_a_killed_run_made_is_listed(tmp_path):
    killed(tmp_path, "/x/b.wav", "/x/a.wav", "/x/c.wav")
    with OutputFolder(tmp_path, {"a": 1}) as folder:
        assert all(folder.done(f"/x/{name}.wav", "s") for name in "abc")
    lines = [json.loads(line) for line in (tmp_path / "generations.jsonl").read_text().splitlines()]
    assert [line["output"] for line in lines] == ["a.wav", "b.wav", "c.wav"]
    killed(tmp_path, "/x/d.wav", "/x/a.wav")
    with OutputFolder(tmp_path, {"a": 2}, overwrite=True) as folder:
        folder.write("/x/e.wav", [WAVE], 16000, FACTS)
    assert names(tmp_path) == ["e.wav"]


def test_a_recording_made_anew_has_its_last_lines(tmp_path):
    killed(tmp_path, "/x/a.wav")
    run = OutputFolder(tmp_path, {"a": 1})
    run.__enter__()
    run.write("/x/a.wav", [WAVE, WAVE], 16000, [{"sha256": "t"}] * 2)
    run._lock.release()
    assert len((tmp_path / "generations.jsonl").read_text().splitlines()) == 3
    with OutputFolder(tmp_path, {"a": 1}) as folder:
        assert len(folder.done("/x/a.wav", "t")) == 2
    assert names(tmp_path) == ["a-1.wav", "a-2.wav"]
    assert len((tmp_path / "generations.jsonl").read_text().splitlines()) == 2


def test_files_are_listed_before_they_are_there(tmp_path, monkeypatch):
    def stop(*paths):
        raise KeyboardInterrupt

    with OutputFolder(tmp_path, {"a": 1}) as folder:
        monkeypatch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            folder.write("/x/a.wav", [WAVE], 16000, FACTS)
        monkeypatch.undo()
        assert json.loads((tmp_path / "generations.jsonl").read_text())["output"] == "a.wav"
        assert names(tmp_path) == [] and folder.done("/x/a.wav", "s") is None


def test_a_part_of_a_last_line_is_left_out(tmp_path):
    killed(tmp_path, "/x/a.wav", "/x/b.wav")
    path = tmp_path / "generations.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    killed(tmp_path, "/x/c.wav")
    with OutputFolder(tmp_path, {"a": 1}) as folder:
        assert [folder.done(f"/x/{name}.wav", "s") is None for name in "abc"] == [False, True, False]


def test_files_of_others_are_never_deleted(tmp_path):
    hidden = [".mine.wav", ".generations.jsonl.old", ".song.wav.abcd1234.wav"]
    for name in (*hidden, "song.wav"):
        (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(ConfigurationError, match=r"not generated, first song\.wav"), OutputFolder(tmp_path, {"a": 1}):
        pass
    assert all((tmp_path / name).read_bytes() == b"mine" for name in (*hidden, "song.wav"))
    (tmp_path / "song.wav").unlink()
    killed(tmp_path, "/x/a.wav")
    (tmp_path / "song.wav").write_bytes(b"mine")
    before = (tmp_path / "generation.json").read_bytes()
    with (
        pytest.raises(ConfigurationError, match=r"generations\.jsonl does not list, first song\.wav"),
        OutputFolder(tmp_path, {"a": 2}, overwrite=True),
    ):
        pass
    assert names(tmp_path) == ["a.wav", "song.wav"] and (tmp_path / "generation.json").read_bytes() == before
    with OutputFolder(tmp_path, {"a": 1}):
        pass
    # Of these only the last one has a name that an unfinished file of this folder has.
    assert [(tmp_path / name).exists() for name in hidden] == [True, True, False]


def test_sound_that_is_not_finite_leaves_no_file(tmp_path):
    with OutputFolder(tmp_path, {"a": 1}) as folder, pytest.raises(AudioValueError, match=r"made for a-2\.wav is nan"):
        folder.write("/x/a.wav", [WAVE, np.full(3, np.nan, np.float32)], 16000, FACTS * 2)
    assert not list(tmp_path.glob("*.wav")) and not list(tmp_path.glob(".*.wav"))
    assert (tmp_path / "generations.jsonl").read_text() == ""
