"""HuBERT encoders of fairseq → folders that `HubertModel` opens, and with a quantizer processors."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from transformers import HubertConfig

from ..core.conversion import CONVERSION_FILE
from ..core.digest import sha256_of_file
from ..core.files import read_json, write_json
from ..processors.dense_model import DenseModel
from ..processors.frame_geometry import FrameGeometry
from ..processors.loading import load_dense_model, load_quantizer
from ..processors.processing_speech_units import SpeechUnitProcessor
from ..processors.quantizer import QUANTIZER_FILE, Quantizer
from ..processors.tokenization_units import UnitTokenizer
from ..processors.unit_encoder import BESIDE_ME, ENCODER_FOLDER, UnitEncoder, UnitEncoderDescription
from .checkpoint_weights import DTYPES, checked_content, weight_reader
from .encoder_keys import EncoderPlan, plan_encoder
from .errors import ConversionError
from .file_kinds import expecting
from .hubert_settings import HubertSettings, read_hubert_settings
from .new_folder import new_folder
from .quantizer import convert_quantizer
from .torch_file import open_torch_file
from .weights_file import PendingTensor, write_weights

__all__ = ["convert_encoder", "read_quantizer", "save_processor"]

_SAMPLING_RATE = 16_000
_WEIGHTS = "model.safetensors"
_COUNTER = "encoder.pos_conv_embed.batch_norm.num_batches_tracked"


def convert_encoder(
    source: str | Path,
    destination: str | Path,
    *,
    quantizer: str | Path | None = None,
    layer: int | None = None,
    dtype: Literal["float32", "float16"] = "float32",
) -> dict[str, Any]:
    """Make a `HubertModel` folder of a fairseq checkpoint; nothing in it is executed.

    Args:
        source (`str | Path`): for example `hubert_base_ls960.pt`.
        destination (`str | Path`): the new folder: `config.json`, `model.safetensors`, `preprocessor_config.json`, and
            `conversion.json`, which says what became of what. With `quantizer` it is a processor that
            `AutoProcessor.from_pretrained` opens, and these files are in its sub-folder `encoder`.
        quantizer (`str | Path`, *optional*): k-means of the features of `layer`: a joblib file, or what
            `convert_quantizer` made of one.
        layer (`int`, *optional*): keep only the layers up to this one, an index into `hidden_states`; all by default.
            Its features are fairseq's `extract_features(output_layer=layer)`.
        dtype (`str`, defaults to `"float32"`): precision of the weights.

    Returns:
        `dict`: the content of `conversion.json`, and `output`; with `quantizer` also `units` and `digest`, of the
        processor's fingerprint.

    Raises:
        ConversionError: a file is damaged, hostile or of another architecture, or the two do not fit; nothing is left
            behind.
        ConfigurationError: a quantizer in safetensors is absent or damaged.
    """
    if dtype not in DTYPES:
        raise ConversionError(f"dtype is {dtype!r}", hint="float32 or float16")
    if quantizer is not None and layer is None:
        raise ConversionError(
            "a quantizer is given without the layer whose features it divides", hint="6 for HuBERT base's km100"
        )
    with new_folder(destination) as folder:
        place = folder if quantizer is None else folder / ENCODER_FOLDER
        place.mkdir(exist_ok=True)
        with expecting("encoder", source):
            record = _convert(Path(source), place, layer, dtype)
        result = {"output": str(destination), **record}
        if quantizer is not None:
            centroids = _centroids(Path(quantizer), folder, record["feature_size"], layer)
            fingerprint = save_processor(
                folder,
                folder / ENCODER_FOLDER,
                centroids,
                layer=record["layers"],
                normalization=record["normalization"],
                encoder_id=Path(source).stem,
            )
            result |= {"units": centroids.num_units, "digest": fingerprint["digest"]}
    return result


def save_processor(
    folder: Path,
    encoder_folder: Path,
    quantizer: Quantizer,
    *,
    layer: int,
    normalization: str,
    encoder_id: str,
    tokenizer: UnitTokenizer | None = None,
) -> dict[str, Any]:
    """Write everything of a processor but its quantizer.

    Args:
        folder (`Path`): of the processor; `quantizer.safetensors` is there, or will be.
        encoder_folder (`Path`): the encoder; it may be `encoder` in `folder` already.
        quantizer (`Quantizer`): centroids of its features.
        layer (`int`): index into `hidden_states`.
        normalization (`str`): one of `NORMALIZATIONS`.
        encoder_id (`str`): what the fingerprint calls the encoder.
        tokenizer (`UnitTokenizer`, *optional*): numeric order of the units by default.

    Returns:
        `dict`: the fingerprint.

    Raises:
        ConversionError: the encoder's file lacks a weight.
        ConfigurationError: the encoder is damaged, or does not fit the centroids.
    """
    place = encoder_folder.absolute()
    dense_model = load_dense_model(str(place.parent), place.name, layer, {})
    _check_weights(dense_model, place)
    if place != (folder / ENCODER_FOLDER).absolute():
        _write_encoder(dense_model, place, folder / ENCODER_FOLDER)
    description = UnitEncoderDescription(layer=layer, normalization=normalization, encoder_id=encoder_id)
    encoder = UnitEncoder(description, dense_model=dense_model, quantizer=quantizer)
    processor = SpeechUnitProcessor.from_unit_encoder(encoder, tokenizer)
    processor.save_pretrained(folder, base_source=BESIDE_ME)
    return encoder.fingerprint


def read_quantizer(place: str | Path) -> Quantizer:
    """Centroids of a folder, or of a safetensors file of any name.

    Raises:
        ConfigurationError: there are none, or the file is damaged.
    """
    path = Path(place)
    return (
        load_quantizer(str(path.parent), path.name, {})
        if path.is_file()
        else load_quantizer(str(path.absolute()), QUANTIZER_FILE, {})
    )


def _convert(source: Path, folder: Path, layer: int | None, dtype: str) -> dict[str, Any]:
    """Write the encoder; returns the content of `conversion.json`."""
    with open_torch_file(source) as file:
        content, state = checked_content(file)
        settings = read_hubert_settings(content, file.name)
        num_layers = settings.num_layers if layer is None else layer
        if not 1 <= num_layers <= settings.num_layers:
            raise ConversionError(f"layer {layer} of {file.name}, which has {settings.num_layers} layers")
        plan = plan_encoder(state, settings, num_layers, file.name)
        pending = {
            target: PendingTensor(part.tensor.shape, weight_reader(file, part.key, part.tensor, DTYPES[dtype]))
            for target, part in plan.parts.items()
        }
        if settings.has_position_batch_norm:
            # transformers wants it, and nothing reads it: batch norm's momentum is a constant.
            pending[_COUNTER] = PendingTensor((), lambda: torch.zeros(()))
        write_weights(folder / _WEIGHTS, pending, DTYPES[dtype])
        config = _config(settings, num_layers, dtype)
        config.save_pretrained(folder)
        _write_preprocessor(settings, folder)
        entries = sorted(str(key)[:100] for key in content if key != "model")
        record = _record(source, settings, config, plan) | {"dtype": dtype, "entries_left_out": entries}
        write_json(folder / CONVERSION_FILE, record)
    return record


def _record(source: Path, settings: HubertSettings, config: HubertConfig, plan: EncoderPlan) -> dict[str, Any]:
    return {
        "source": source.name,
        "source_sha256": sha256_of_file(source),
        "architecture": "hubert",
        "layers": config.num_hidden_layers,
        "layers_in_source": settings.num_layers,
        "feature_size": settings.hidden_size,
        "sampling_rate": _SAMPLING_RATE,
        "frame_rate": _SAMPLING_RATE / settings.hop_samples,
        "min_samples": FrameGeometry.from_config(config).min_samples,
        "normalization": settings.normalization,
        "parameters": sum(math.prod(part.tensor.shape) for part in plan.parts.values()),
        "keys_left_out": plan.left_out,
    }


def _config(settings: HubertSettings, num_layers: int, dtype: str) -> HubertConfig:
    return HubertConfig(
        hidden_size=settings.hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=settings.num_heads,
        intermediate_size=settings.intermediate_size,
        hidden_act=settings.activation,
        hidden_dropout=settings.dropout,
        activation_dropout=settings.activation_dropout,
        attention_dropout=settings.attention_dropout,
        feat_proj_dropout=settings.input_dropout,
        layerdrop=settings.layerdrop,
        feat_proj_layer_norm=True,
        feat_extract_norm=settings.conv_norm,
        feat_extract_activation="gelu",
        conv_dim=[layer.size for layer in settings.conv_layers],
        conv_kernel=[layer.kernel for layer in settings.conv_layers],
        conv_stride=[layer.stride for layer in settings.conv_layers],
        conv_bias=settings.conv_bias,
        num_conv_pos_embeddings=settings.position_kernel,
        num_conv_pos_embedding_groups=settings.position_groups,
        conv_pos_batch_norm=settings.has_position_batch_norm,
        do_stable_layer_norm=settings.is_pre_norm,
        architectures=["HubertModel"],
        dtype=dtype,
    )


def _write_preprocessor(settings: HubertSettings, folder: Path) -> None:
    """What transformers' own feature extractor needs; ours has `normalization` in processor_config.json."""
    from transformers import Wav2Vec2FeatureExtractor

    Wav2Vec2FeatureExtractor(
        sampling_rate=_SAMPLING_RATE,
        do_normalize=settings.normalizes_input,
        # As in Meta's own conversions: a mask changes nothing in what group norm does to padding.
        return_attention_mask=settings.conv_norm == "layer",
    ).save_pretrained(folder)


def _centroids(source: Path, folder: Path, feature_size: int, layer: int | None) -> Quantizer:
    """Read centroids, and write them to `folder`."""
    if source.is_dir() or source.suffix == ".safetensors":
        found = read_quantizer(source)
        found.save(folder / QUANTIZER_FILE)
    else:
        convert_quantizer(source, folder, metadata={"layer": str(layer)})
        found = Quantizer.load(folder / QUANTIZER_FILE)
    if found.feature_size != feature_size:
        raise ConversionError(
            f"the centroids in {source} have size {found.feature_size}, the encoder's features {feature_size}",
            hint="the quantizer was fitted on another encoder",
        )
    return found


def _check_weights(dense_model: DenseModel, place: Path) -> None:
    """Absent weights: transformers fills them with random numbers, and only warns."""
    path = place / _WEIGHTS
    if not path.is_file():
        return
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
    except SafetensorError as error:
        raise ConversionError(f"{path} is damaged: {error}"[:300], hint="convert the encoder again") from error
    for old, new in (
        ("weight_g", "parametrizations.weight.original0"),
        ("weight_v", "parametrizations.weight.original1"),
    ):
        names |= {name.removesuffix(old) + new for name in names if name.endswith(f".{old}")}
    names |= {name.partition(".")[2] for name in names}
    absent = sorted(dense_model.used_tensors().keys() - names)
    if absent:
        raise ConversionError(f"{path} lacks {absent[0]}", hint="convert the encoder again")


def _write_encoder(dense_model: DenseModel, source: Path, target: Path) -> None:
    """Cut above its layer; an encoder that ends there is copied as it is."""
    target.mkdir()
    is_whole = read_json(source / "config.json").get("num_hidden_layers") == dense_model.layer
    names = ["preprocessor_config.json", CONVERSION_FILE]
    if is_whole and (source / _WEIGHTS).is_file():
        names += ["config.json", _WEIGHTS]
    else:
        dense_model.save(target)
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
