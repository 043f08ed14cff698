"""Doctor reports each part and fails where one is wrong."""

import sys
from importlib import metadata

from speechprompt_cli.commands import doctor


def test_the_report_names_every_part(speechprompt):
    answer = speechprompt("doctor", "--json")
    checks = {check["name"]: check for check in answer.json["checks"]}
    assert {"python", "torch", "transformers", "peft", "torchaudio", "cache", "import", "self-test"} <= checks.keys()
    assert answer.json["ok"] is all(check["ok"] for check in checks.values())
    assert answer.code == (0 if answer.json["ok"] else 1)
    assert checks["import"]["ok"] and checks["self-test"]["ok"], checks


def test_a_version_outside_the_tested_range_fails(monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: ["torch<2.15,>=2.13.0", "rich>=13"])
    monkeypatch.setattr(metadata, "version", lambda name: "2.15.1")
    ok, detail = doctor._version_check("torch")()
    assert not ok
    assert "outside the tested range" in detail and "pip install" in detail
    monkeypatch.setattr(metadata, "version", lambda name: "2.14.1+cpu")
    assert doctor._version_check("torch")()[0]


def test_a_broken_torchaudio_is_named(monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "torchaudio":
                from importlib.machinery import ModuleSpec

                return ModuleSpec(name, self)

        def create_module(self, spec):
            raise OSError("Could not load this library: _torchaudio.abi3.so")

        def exec_module(self, module):
            raise AssertionError

    monkeypatch.delitem(sys.modules, "torchaudio", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    ok, detail = doctor._torchaudio()
    assert not ok
    assert "pip uninstall torchaudio" in detail


def test_a_cache_that_cannot_be_written_fails(monkeypatch, tmp_path):
    import huggingface_hub.constants

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path / "file" / "below"))
    ok, detail = doctor._cache()
    assert not ok and "HF_HOME" in detail


def test_our_own_cache_is_tried_too(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path / "file" / "below"))
    ok, detail = doctor._cache()
    assert not ok and "SPEECHPROMPT_CACHE" in detail


def test_the_self_test_sees_other_units(monkeypatch):
    from speechprompt_hf.backbones import self_test

    expected = self_test.read_json(self_test.Path(self_test.resolve_base(self_test.DEFAULT_BASE)) / "self_test.json")
    wrong = {**expected, "frame_units": [(unit + 1) % 100 for unit in expected["frame_units"]]}
    monkeypatch.setattr(self_test, "read_json", lambda path: wrong)
    ok, detail = self_test.run_self_test()
    assert not ok and "0 of" in detail


def test_the_test_sound_has_voice_and_hiss():
    import numpy as np

    from speechprompt_hf.backbones.self_test import self_test_waveform

    wave = self_test_waveform()
    assert wave.dtype == np.float32 and wave.shape == (24000,)
    assert 0.1 < np.abs(wave).max() < 1
    assert np.array_equal(wave, self_test_waveform())
