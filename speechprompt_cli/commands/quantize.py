"""`speechprompt quantize`: k-means on an encoder's features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..console import note, print_json, print_line, progress_bar, working
from ..corpora import device_or_best, read_corpus, waveforms_of
from ..options import CorpusOption, DeviceOption, JsonOption, OutputOption, SeedOption

_BATCH = 16


def run(
    dataset: CorpusOption,
    encoder: Annotated[
        str,
        typer.Option(help="A speech encoder of transformers (HuBERT, wav2vec 2.0, WavLM, Whisper): folder or Hub id."),
    ],
    output: OutputOption,
    layer: Annotated[int, typer.Option(help="Whose hidden states are clustered; 0 is the first layer's input.")],
    clusters: Annotated[int, typer.Option(min=2, help="How many units there will be.")] = 100,
    normalization: Annotated[
        Literal["none", "zero_mean_unit_variance", "unit_rms"],
        typer.Option(
            help="How the encoder's input was scaled in its training: none for HuBERT base and wav2vec 2.0 base, "
            "zero_mean_unit_variance for their large models and for what distill makes."
        ),
    ] = "zero_mean_unit_variance",
    max_hours: Annotated[float, typer.Option(min=0.001, help="Speech to use, drawn at random.")] = 5.0,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit k-means on the features of an encoder: the second step to a backbone of your own.

    Writes a folder that AutoProcessor opens: the encoder, the centroids (quantizer.safetensors) and the settings. Give
    it to units and pretrain as --base.
    """
    with working():
        corpus = read_corpus(dataset)
        rows = corpus.get("train") or next(iter(corpus.values()))
        waves = waveforms_of(rows, max_seconds=3600 * max_hours, seed=seed)
        result = _fit(waves, encoder, output, layer, clusters, normalization, seed, device)
    if as_json:
        print_json(result)
    else:
        print_line(f"{output}\t{clusters} units\tfrom {result['frames']} frames\tinertia {result['inertia']:.4f}")


def _fit(
    waves: list[Any],
    encoder: str,
    output: Path,
    layer: int,
    clusters: int,
    normalization: str,
    seed: int,
    device: str | None,
) -> dict[str, Any]:
    import numpy as np

    from speechprompt_hf import SpeechUnitProcessor, UnitEncoder
    from speechprompt_hf.pretraining.quantization import fit_quantizer
    from speechprompt_hf.processors.feature_extraction_speech_units import normalize_waveform
    from speechprompt_hf.processors.loading import dense_model_from

    dense_model = dense_model_from(encoder, layer)
    options: dict[str, Any] = {"layer": layer, "normalization": normalization, "encoder_id": Path(encoder).name}
    # One centroid at the origin: features need none.
    reader = UnitEncoder.from_model(dense_model.model, np.zeros((1, dense_model.feature_size), np.float32), **options)
    reader.to(device_or_best(device))
    note(f"{sum(map(len, waves)) / 3600 / 16_000:.2f} hours of speech")
    frames = []
    with progress_bar("features", len(waves)) as advance:
        for start in range(0, len(waves), _BATCH):
            batch = [normalize_waveform(wave, normalization) for wave in waves[start : start + _BATCH]]
            frames += [features.cpu().numpy() for features in reader.features(batch)]
            advance(len(batch))
    features = np.concatenate(frames)
    fit = fit_quantizer(features, clusters, seed=seed)
    unit_encoder = UnitEncoder.from_model(dense_model.model, fit.centroids, **options)
    SpeechUnitProcessor.from_unit_encoder(unit_encoder).save_pretrained(output, save_encoder=True)
    return {
        "output": str(output),
        "frames": len(features),
        "inertia": fit.inertia,
        "empty_clusters": int((fit.shares == 0).sum()),
        "seed": seed,
        "fingerprint": unit_encoder.fingerprint,
    }
