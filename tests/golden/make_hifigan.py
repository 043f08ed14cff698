"""Makes hifigan.safetensors: small random vocoders in fairseq's own form, and what fairseq makes of units with them.

    python tests/golden/make_hifigan.py

Needs fairseq (made with fairseq-fixed 0.12.3.1 and torch 2.13.0) and safetensors.
"""

import json
import tempfile
from pathlib import Path

import torch

GOLDEN = Path(__file__).with_name("hifigan.safetensors")
# No two sizes are equal, so that none is mistaken for another.
UNITS, WIDTH, INNER, SPEAKERS, CHANNELS = 23, 14, 18, 6, 20


def vocoder_settings(**changes) -> dict:
    """fairseq's config.json of a small vocoder; `...` leaves an entry out."""
    values = {
        "resblock": "1",
        "learning_rate": 0.0002,
        "upsample_rates": [5, 4],
        "upsample_kernel_sizes": [11, 8],
        "upsample_initial_channel": CHANNELS,
        "resblock_kernel_sizes": [3, 7],
        "resblock_dilation_sizes": [[1, 3, 5], [1, 2, 4]],
        "num_embeddings": UNITS,
        "embedding_dim": WIDTH,
        "model_in_dim": WIDTH,
        "code_hop_size": 20,
        "f0": False,
        "num_mels": 80,
        "dur_prediction_weight": 1.0,
        "dur_predictor_params": {
            "encoder_embed_dim": WIDTH,
            "var_pred_hidden_dim": INNER,
            "var_pred_kernel_size": 3,
            "var_pred_dropout": 0.5,
        },
        "sampling_rate": 16000,
        "dist_config": {"dist_backend": "nccl"},
    }
    return {key: value for key, value in {**values, **changes}.items() if value is not ...}


SETTINGS = {
    "one_voice": vocoder_settings(),
    "voices": vocoder_settings(
        model_in_dim=2 * WIDTH, multispkr="_", num_speakers=SPEAKERS, dur_predictor_params=..., f0=...
    ),
}


def random_generator(settings: dict, seed: int) -> torch.nn.Module:
    """fairseq's CodeGenerator under weight norm, with weights large enough that every part matters."""
    from fairseq.models.text_to_speech.codehifigan import CodeGenerator

    model = CodeGenerator(settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("weight_g"):
                # Outputs of about the size of the inputs: no part dies away, and tanh is not saturated.
                parameter.copy_(0.8 + 0.1 * noise)
            elif name == "dur_predictor.proj.bias":
                parameter.fill_(1.2)
            elif ".ln" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif name.startswith("dur_predictor") or name.endswith("bias"):
                parameter.copy_(0.2 * noise)
            else:
                parameter.copy_(noise)
    return model.eval()


def write_checkpoint(state: dict, settings: dict, folder: Path) -> tuple[Path, Path]:
    """`g_00500000` and `config.json` as fairseq reads them."""
    weights, config = folder / "g_00500000", folder / "config.json"
    torch.save({"generator": state}, weights)
    config.write_text(json.dumps(settings))
    return weights, config


def fairseq_waveform(
    vocoder: torch.nn.Module, units: list[int], predict_durations: bool, speaker=None
) -> torch.Tensor:
    """What `CodeHiFiGANVocoder` makes of one row."""
    inputs = {"code": torch.tensor([units])}
    if speaker is not None:
        inputs["spkr"] = torch.tensor([[speaker]])
    return vocoder(inputs, predict_durations)


def open_vocoder(weights: Path, config: Path) -> torch.nn.Module:
    """fairseq's own reading of a checkpoint."""
    from fairseq.models.text_to_speech.vocoder import CodeHiFiGANVocoder

    return CodeHiFiGANVocoder(str(weights), json.loads(config.read_text()))


def main() -> None:
    """Write the file."""
    from safetensors.torch import save_file

    tensors, metadata = {}, {}
    units = torch.randint(UNITS, (9,), generator=torch.Generator().manual_seed(7)).tolist()
    with tempfile.TemporaryDirectory() as folder:
        for seed, (name, settings) in enumerate(SETTINGS.items()):
            state = random_generator(settings, seed).state_dict()
            vocoder = open_vocoder(*write_checkpoint(state, settings, Path(folder)))
            speaker = 3 if "multispkr" in settings else None
            tensors |= {f"{name}/generator/{key}": value.contiguous() for key, value in state.items()}
            tensors[f"{name}/frames"] = fairseq_waveform(vocoder, units, False, speaker)
            if "dur_predictor_params" in settings:
                tensors[f"{name}/predicted"] = fairseq_waveform(vocoder, units, True, speaker)
            metadata[name] = json.dumps({"settings": settings, "units": units, "speaker": speaker})
    save_file(tensors, GOLDEN, metadata)
    print({key: (tuple(value.shape), float(value.abs().max())) for key, value in tensors.items() if "gen" not in key})
    print(f"{GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
