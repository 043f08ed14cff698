"""A unit vocoder of fairseq and what is made of it give the same audio; what does not fit is refused by name."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel

from speechprompt_hf import UnitHifiGan
from speechprompt_hf.convert.errors import ConversionError
from speechprompt_hf.convert.hifigan import convert_hifigan
from speechprompt_hf.core.conversion import CONVERSION_FILE
from speechprompt_hf.core.errors import SpeechPromptError
from tests.fixtures.mutations import mutated, saved, with_mutated_pickle
from tests.golden.make_hifigan import GOLDEN, SETTINGS, SPEAKERS, UNITS, WIDTH, vocoder_settings

NUM_MUTANTS = 50  # for each of two kinds


@dataclass
class Checkpoint:
    """A vocoder as fairseq wrote it, that can be changed before it is written again."""

    folder: Path
    state: dict
    settings: dict
    facts: dict
    waveforms: dict
    content: dict = field(default_factory=dict)

    def write(self, **options) -> tuple[Path, Path, Path]:
        weights, config = self.folder / "g_00500000", self.folder / "vocoder.json"
        torch.save({"generator": self.state, **self.content}, weights, **options)
        config.write_text(json.dumps(self.settings))
        return weights, self.folder / "vocoder", config

    def convert(self, dtype="float32", **options) -> dict:
        return convert_hifigan(*self.write(**options), dtype=dtype)


@pytest.fixture
def checkpoint_of(tmp_path):
    def read(name: str) -> Checkpoint:
        with safe_open(GOLDEN, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys() if key.startswith(f"{name}/")}  # noqa: SIM118
            facts = json.loads(file.metadata()[name])
        prefix = f"{name}/generator/"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        waveforms = {key.split("/")[1]: value for key, value in tensors.items() if not key.startswith(prefix)}
        return Checkpoint(tmp_path, state, facts["settings"], facts, waveforms)

    return read


@pytest.fixture
def checkpoint(checkpoint_of) -> Checkpoint:
    return checkpoint_of("one_voice")


def opened(folder):
    model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert type(model) is UnitHifiGan and not any(info.values()), info
    return model


def differences(checkpoint, model) -> dict[str, float]:
    """Largest difference to each of fairseq's waveforms."""
    units, speaker = torch.tensor([checkpoint.facts["units"]]), checkpoint.facts["speaker"]
    speakers = None if speaker is None else torch.tensor([speaker])
    found = {}
    for kind, expected in checkpoint.waveforms.items():
        with torch.no_grad():
            output = model(units, speaker_ids=speakers, predict_durations=kind == "predicted")
        assert output.waveform.shape == (1, *expected.shape), kind
        found[kind] = float((output.waveform[0] - expected).abs().max())
    return found


def assert_same_audio(checkpoint, folder, tolerance=1e-4):
    found = differences(checkpoint, opened(folder))
    assert found and max(found.values()) < tolerance, found


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", SETTINGS)
def test_audio_is_that_of_fairseq(checkpoint_of, name, options):
    checkpoint = checkpoint_of(name)
    checkpoint.content = {"steps": 500_000}
    result = checkpoint.convert(**options)
    assert_same_audio(checkpoint, checkpoint.folder / "vocoder")
    record = json.loads((checkpoint.folder / "vocoder" / CONVERSION_FILE).read_text())
    assert result == {"output": str(checkpoint.folder / "vocoder"), **record}
    model = opened(checkpoint.folder / "vocoder")
    assert (record["parameters"], record["weight_norms_folded"]) == (model.num_parameters(), 28)
    assert (record["units"], record["speakers"]) == (UNITS, SPEAKERS if name == "voices" else 0)
    assert (record["sampling_rate"], record["frame_rate"]) == (16000, 800.0)
    assert record["predicts_durations"] is (name == "one_voice")
    assert (record["keys_left_out"], record["entries_left_out"]) == ({}, ["steps"])
    assert record["settings_left_out"] == ["dist_config", "dur_prediction_weight", "learning_rate", "num_mels"]
    assert record["settings_not_known"] == []
    files = sorted(path.name for path in (checkpoint.folder / "vocoder").iterdir())
    assert files == ["config.json", "conversion.json", "model.safetensors"]


def test_the_golden_settings_are_those_of_the_script(checkpoint_of):
    assert {name: checkpoint_of(name).settings for name in SETTINGS} == SETTINGS
    assert set(checkpoint_of("one_voice").waveforms) == {"frames", "predicted"}


def test_weight_norm_in_the_newer_spelling(checkpoint):
    for key in [key for key in checkpoint.state if key.endswith(("weight_g", "weight_v"))]:
        newer = f"parametrizations.weight.original{0 if key.endswith('g') else 1}"
        checkpoint.state[key.removesuffix(key.rpartition(".")[2]) + newer] = checkpoint.state.pop(key)
    assert checkpoint.convert()["weight_norms_folded"] == 28
    assert_same_audio(checkpoint, checkpoint.folder / "vocoder")


def test_weight_norm_that_was_removed(checkpoint):
    state = checkpoint.state
    for key in [key.removesuffix("_g") for key in state if key.endswith("weight_g")]:
        state[key] = torch._weight_norm(state.pop(f"{key}_v"), state.pop(f"{key}_g"), 0)
    assert checkpoint.convert()["weight_norms_folded"] == 0
    assert_same_audio(checkpoint, checkpoint.folder / "vocoder")


def test_folding_over_the_wrong_axis_is_seen(checkpoint):
    """The transposed convolutions are normed over their first axis, too, which is that of the inputs."""
    state = checkpoint.state
    direction = state["ups.0.weight_v"]
    state["ups.0.weight_v"] = direction / direction.norm(dim=(0, 2), keepdim=True)
    checkpoint.convert()
    assert max(differences(checkpoint, opened(checkpoint.folder / "vocoder")).values()) > 1e-3


def test_half_precision(checkpoint):
    checkpoint.convert(dtype="float16")
    with safe_open(checkpoint.folder / "vocoder" / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
        stored = file.get_tensor("generator.conv_pre.weight")
    folded = torch._weight_norm(checkpoint.state["conv_pre.weight_v"], checkpoint.state["conv_pre.weight_g"], 0)
    # Rounded once, after the norm was folded: to the neighbour at most, as that differs in the last bits.
    torch.testing.assert_close(stored.float(), folded.half().float(), rtol=2**-10, atol=0)
    assert opened(checkpoint.folder / "vocoder").dtype == torch.float16


def test_a_half_precision_checkpoint_is_folded_in_float32(checkpoint):
    checkpoint.state = {key: value.half() for key, value in checkpoint.state.items()}
    checkpoint.convert()
    model = opened(checkpoint.folder / "vocoder")
    state = checkpoint.state
    expected = torch._weight_norm(state["ups.1.weight_v"].float(), state["ups.1.weight_g"].float(), 0)
    torch.testing.assert_close(model.generator.upsampler[1].weight.data, expected, rtol=1e-6, atol=1e-7)
    assert model.dtype == torch.float32


def test_default_number_of_speakers(checkpoint_of):
    checkpoint = checkpoint_of("voices")
    del checkpoint.settings["num_speakers"]
    checkpoint.state["spkr.weight"] = torch.zeros(200, WIDTH)
    assert checkpoint.convert()["speakers"] == 200


def refuse(checkpoint, words):
    paths = checkpoint.write()
    with pytest.raises(ConversionError, match=words):
        convert_hifigan(*paths)
    assert sorted(path.name for path in checkpoint.folder.iterdir()) == ["g_00500000", "vocoder.json"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_embeddings": ...}, "no num_embeddings: no vocoder of units"),
        ({"num_embeddings": 24}, r"dict\.weight .*shape \(23, 14\), the settings need \(24, 14\)"),
        ({"num_embeddings": "23"}, "num_embeddings '23'"),
        ({"num_embeddings": True}, "num_embeddings True"),
        (
            {"embedding_dim": 16, "dur_predictor_params": ...},
            "model_in_dim 14, but unit and speaker embeddings have 16",
        ),
        ({"embedding_dim": 16}, "encoder_embed_dim 14 and embedding_dim differs"),
        ({"model_in_dim": 28}, "model_in_dim 28, but unit and speaker embeddings have 14"),
        ({"multispkr": "_", "model_in_dim": 28}, r"lacks spkr\.weight"),
        ({"multispkr": "_", "num_speakers": 0}, "num_speakers 0"),
        ({"sampling_rate": ...}, "sampling_rate None"),
        ({"sampling_rate": 10**9}, "sampling_rate 1000000000"),
        ({"code_hop_size": 320}, "code_hop_size 320, but upsample_rates make 20"),
        ({"upsample_rates": [4, 5]}, "upsample_kernel_sizes has 11 for the rate 4"),
        ({"upsample_rates": 5}, "upsample_rates 5"),
        ({"upsample_rates": [[5], 4]}, "upsample_rates list"),
        ({"upsample_rates": [5] * 17}, "upsample_rates list"),
        ({"upsample_rates": [5], "upsample_kernel_sizes": [11], "code_hop_size": 5}, r"conv_post.*\(1, 5, 7\).*10"),
        ({"upsample_initial_channel": 22}, r"conv_pre\.weight_g .*\(20, 1, 1\).*\(22, 1, 1\)"),
        ({"upsample_initial_channel": 2}, "cannot be halved 2 times"),
        ({"resblock": "2"}, "resblock '2'"),
        ({"resblock_kernel_sizes": [3]}, "resblock_dilation_sizes"),
        ({"resblock_kernel_sizes": [3, 6]}, "resblock_kernel_sizes has 6"),
        ({"resblock_kernel_sizes": [3, 9]}, r"resblocks\.1\.convs1\.0\.weight_v.*\(10, 10, 7\).*\(10, 10, 9\)"),
        ({"resblock_dilation_sizes": [[1, 3], [1, 2]]}, "2 dilations"),
        ({"resblock_dilation_sizes": [[1, 3, 5], 7]}, "resblock_dilation_sizes 7"),
        ({"resblock_dilation_sizes": [[1, 3, 5], [1, 3, 1001]]}, "resblock_dilation_sizes 1001"),
        ({"f0": True}, "f0: pitch"),
        ({"multistyle": "_"}, "multistyle: styles"),
        ({"embedder_params": {"dim": 256}}, "embedder_params: speaker embeddings of another model"),
        ({"lambda_commit_code": 0.02}, "a quantizer of its own"),
        ({"dur_predictor_params": ...}, r"holds dur_predictor\.conv1\.0\.bias, which UnitHifiGan has no place for"),
        ({"dur_predictor_params": 3}, "dur_predictor_params 3"),
        ({"dur_predictor_params": {"encoder_embed_dim": 14}}, "var_pred_kernel_size None"),
    ],
)
def test_settings_of_other_models_are_refused(checkpoint, changes, words):
    checkpoint.settings = vocoder_settings(**changes)
    refuse(checkpoint, words)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("var_pred_kernel_size", 5, "var_pred_kernel_size 5"),
        ("var_pred_hidden_dim", 20, r"dur_predictor\.conv1\.0\.weight.*\(18, 14, 3\).*\(20, 14, 3\)"),
        ("var_pred_dropout", 2, "var_pred_dropout 2"),
        ("var_pred_dropout", float("nan"), "var_pred_dropout nan"),
    ],
)
def test_settings_of_other_duration_predictors_are_refused(checkpoint, name, value, words):
    checkpoint.settings["dur_predictor_params"][name] = value
    refuse(checkpoint, words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "no JSON"),
        (b"\xff\xfe{}", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1]", "holds a list, no settings"),
        (b" " * (2**20 + 1), "1048577 bytes, more than 1048576"),
        (None, "no settings file"),
    ],
    ids=["cut off", "no text", "deep", "a list", "large", "absent"],
)
def test_settings_that_cannot_be_read_are_refused(checkpoint, content, words):
    weights, folder, config = checkpoint.write()
    config.unlink()
    if content is not None:
        config.write_bytes(content)
    with pytest.raises(ConversionError, match=words):
        convert_hifigan(weights, folder, config)
    assert not folder.exists()


def change(key, value):
    return lambda state: state.update({key: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("conv_post.bias"), r"lacks conv_post\.bias"),
        (lambda state: state.pop("ups.1.weight_g"), r"lacks ups\.1\.weight_g"),
        (lambda state: [state.pop(f"conv_pre.weight_{each}") for each in "gv"], r"lacks conv_pre\.weight"),
        (lambda state: state.pop("dict.weight"), r"lacks dict\.weight"),
        (lambda state: state.pop("dur_predictor.ln2.bias"), r"lacks dur_predictor\.ln2\.bias"),
        (change("conv_pre.weight", torch.zeros(20, 14, 7)), r"both conv_pre\.weight and conv_pre\.weight_g.*the same"),
        (change("ups.1.weight_g", torch.ones(1, 5, 1)), r"ups\.1\.weight_g .*\(1, 5, 1\).*\(10, 1, 1\)"),
        (change("ups.0.weight_v", torch.ones(10, 20, 11)), r"ups\.0\.weight_v .*\(10, 20, 11\).*\(20, 10, 11\)"),
        (change("ups.0.bias", torch.ones(())), r"ups\.0\.bias .*\(\)"),
        (change("spkr.weight", torch.zeros(200, 14)), r"holds spkr\.weight"),
        (change("f0_quant_embed.weight", torch.zeros(20, 14)), r"holds f0_quant_embed\.weight"),
        (change("resblocks.4.convs1.0.bias", torch.zeros(5)), r"holds resblocks\.4\.convs1\.0\.bias"),
        (change("x" * 10_000, torch.zeros(5)), r"holds x{100}, which"),
        (change("conv_pre.bias", torch.zeros(20).long()), r"conv_pre\.bias .*int64"),
        (change("conv_pre.weight_g", torch.ones(20, 1, 1).int()), r"magnitude of conv_pre\.weight_v .*int32"),
        (change("conv_pre.bias", [1.0]), "conv_pre.bias in 'generator', which is no tensor"),
        (change(3, torch.zeros(5)), "holds 3 in 'generator'"),
        (change("conv_pre.bias", torch.full((20,), float("inf"))), r"conv_pre\.bias .*NaN or infinite"),
        (change("conv_pre.weight_v", torch.zeros(20, 14, 7)), r"conv_pre\.weight_v .*NaN.*under its weight norm"),
    ],
)
def test_weights_of_other_models_are_refused(checkpoint, change, words):
    change(checkpoint.state)
    refuse(checkpoint, words)


def test_values_beyond_half_precision_are_refused(checkpoint):
    checkpoint.state["conv_pre.weight_g"][3] = 1e7
    paths = checkpoint.write()
    with pytest.raises(ConversionError, match=r"conv_pre\.weight_v .*beyond torch\.float16"):
        convert_hifigan(*paths, dtype="float16")
    with pytest.raises(ConversionError, match="int8"):
        convert_hifigan(*paths, dtype="int8")
    assert not paths[1].exists()


@pytest.mark.parametrize("content", [[1], {"mdp": {}}, {"generator": {}}, {"generator": 3}])
def test_other_contents_are_refused(checkpoint, content):
    weights, folder, config = checkpoint.write()
    torch.save(content, weights)
    with pytest.raises(ConversionError, match="no weights in 'generator'"):
        convert_hifigan(weights, folder, config)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 0.999])
def test_truncated_files_are_refused(checkpoint, share):
    weights, folder, config = checkpoint.write()
    whole = weights.read_bytes()
    weights.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ConversionError, match="g_00500000"):
        convert_hifigan(weights, folder, config)
    assert not folder.exists()


def test_a_planted_call_leaves_no_trace(checkpoint, trap):
    checkpoint.content = {"config": trap.planted}
    paths = checkpoint.write()
    with pytest.raises(ConversionError, match=trap.name):
        convert_hifigan(*paths)
    assert not trap.mark.exists() and not paths[1].exists()


def test_a_folder_that_is_there_is_left_alone(checkpoint):
    (checkpoint.folder / "vocoder").mkdir()
    (checkpoint.folder / "vocoder" / "mine.txt").write_text("mine")
    with pytest.raises(ConversionError, match="no empty folder"):
        checkpoint.convert()
    assert [each.name for each in (checkpoint.folder / "vocoder").iterdir()] == ["mine.txt"]


def run_mutants(checkpoint, kind: str, num_mutants: int) -> int:
    """How many of the mutants were converted; the others have to be refused with a typed error and no trace."""
    weights, folder, config = checkpoint.write()
    whole, settings = saved({"generator": checkpoint.state}), config.read_bytes()
    if kind == "legacy":
        whole = saved({"generator": checkpoint.state}, _use_new_zipfile_serialization=False)
    mutate = with_mutated_pickle if kind == "pickle" else mutated
    generator = np.random.default_rng(sum(kind.encode()))
    converted = 0
    for _ in range(num_mutants):
        if kind == "settings":
            config.write_bytes(mutated(settings, generator))
        else:
            weights.write_bytes(mutate(whole, generator))
        try:
            convert_hifigan(weights, folder, config)
        except SpeechPromptError as error:
            assert str(error)
        else:
            UnitHifiGan.from_pretrained(folder)
            shutil.rmtree(folder)
            converted += 1
        assert sorted(path.name for path in checkpoint.folder.iterdir()) == ["g_00500000", "vocoder.json"]
    return converted


@pytest.mark.parametrize("kind", ["pickle", "settings"])
def test_mutants_are_converted_or_refused(checkpoint, kind):
    assert run_mutants(checkpoint, kind, NUM_MUTANTS) < NUM_MUTANTS


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["archive", "pickle", "legacy", "settings"])
def test_many_mutants_are_converted_or_refused(checkpoint, kind):
    assert run_mutants(checkpoint, kind, 500) < 500
