"""Adapters and bases come from strangers: their claims are checked before anything of their size is made."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers.activations import ACT2FN

from ..core.errors import AdapterError, ConfigurationError
from .configuration_speechprompt import FORMAT_VERSION, MAX_OUTPUT_VOCAB_SIZE, MAX_VERBALIZER_HIDDEN_SIZE
from .target_units import check_target_units

__all__ = [
    "check_base_header",
    "check_config_values",
    "check_finite",
    "check_header",
    "read_config_file",
    "shortened",
]

MAX_CONFIG_BYTES = 8_000_000
"""Largest JSON file that is read; 100,000 labels of 60 characters fit."""

_LIMITS = {
    "num_virtual_tokens": 10_000,
    "verbalizer_hidden_size": MAX_VERBALIZER_HIDDEN_SIZE,
    "output_vocab_size": MAX_OUTPUT_VOCAB_SIZE,
    "max_output_tokens": 100_000,
    "vocab_size": 1_000_000,
    "num_units": 1_000_000,
    "hidden_size": 65_536,
    "num_encoder_layers": 1_000,
    "num_hidden_layers": 1_000,
    "num_attention_heads": 4_096,
    "intermediate_size": 1_000_000,
    "max_position_embeddings": 1_000_000,
    "num_labels": 100_000,
}
_MAY_BE_ZERO = ("verbalizer_hidden_size",)
# What the configuration of a wrapped language model calls its sizes.
_WRAPPED_LIMITS = _LIMITS | {
    "head_dim": _LIMITS["hidden_size"],
    "num_key_value_heads": _LIMITS["num_attention_heads"],
    "ffn_dim": _LIMITS["intermediate_size"],
    "n_embd": _LIMITS["hidden_size"],
    "n_inner": _LIMITS["intermediate_size"],
    "n_layer": _LIMITS["num_hidden_layers"],
    "n_head": _LIMITS["num_attention_heads"],
    "n_positions": _LIMITS["max_position_embeddings"],
}
_MAX_ELEMENTS = 2**31
_MAX_POSITION_ELEMENTS = 2**27
_MAX_CLASSES_OF_SEQUENCES = 5_000
# Nodes of the tree over label sequences; what sees what is a square of them.
_MAX_TREE_NODES = 10_000
# Letters of a folder or a Hub id.
_MAX_NAME = 4_096
_DTYPES = (None, "float32", "float16", "bfloat16")
_ATTENTIONS = (None, "sdpa", "eager")
_NUMBERS = (
    "prompt_dropout",
    "prompt_init_std",
    "verbalizer_dropout",
    "unit_dropout",
    "feedback_temperature",
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "layer_norm_eps",
    "prompt_seconds",
)
_RECORDS = ("base_fingerprint", "unit_fingerprint", "fingerprint", "file_sha256", "trained_with")


def read_config_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A JSON object of bounded size.

    Raises:
        AdapterError: the file is too large, no JSON, or no object.
    """
    size = os.path.getsize(path)
    if size > MAX_CONFIG_BYTES:
        raise AdapterError(f"{path} has {size} bytes, more than {MAX_CONFIG_BYTES}", hint="no real adapter has")
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{path} is not valid JSON: {error}", hint="it is damaged: save it again") from error
    if not isinstance(values, dict):
        raise AdapterError(f"{path} holds {type(values).__name__} instead of an object")
    return values


def check_config_values(values: Mapping[str, Any], name: str) -> None:
    """Refuse numbers and labels that no real model has, before a configuration is made of them.

    Args:
        values (`Mapping`): the content of config.json.
        name (`str`): of the model, for the message.

    Raises:
        AdapterError: a value is of the wrong type or out of range.
    """
    _check_limits(values, _LIMITS, name)
    version = values.get("format_version", 1)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise AdapterError(
            f"{name} has format version {shortened(version)}, this package reads up to {FORMAT_VERSION}",
            hint="pip install --upgrade speechprompt-hf",
        )
    if (values.get("vocab_size") or 1) * (values.get("hidden_size") or 1) > _MAX_ELEMENTS:
        raise AdapterError(f"vocab_size x hidden_size in config.json of {name} is above {_MAX_ELEMENTS}")
    wrapped = values.get("lm_config")
    if wrapped is not None:
        # Its learned positions are among its weights, whose shapes are compared; rotary ones have no table.
        _check_wrapped(wrapped, name)
    elif (values.get("max_position_embeddings") or 1) * (values.get("hidden_size") or 1) > _MAX_POSITION_ELEMENTS:
        raise AdapterError(
            f"max_position_embeddings x hidden_size in config.json of {name} is above {_MAX_POSITION_ELEMENTS}"
        )
    _check_kinds(values, name)
    _check_records(values, name)
    labels = values.get("id2label")
    if labels is not None:
        _check_labels(labels, name)
    _check_sequences(values.get("label_sequences"), name)
    _check_speech(values, name)


def check_header(path: str | os.PathLike[str], expected: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Compare names and shapes in a safetensors file with what its configuration needs; only its header is read.

    Args:
        path (`str | PathLike`): the file.
        expected (`Mapping`): name → shape.
        name (`str`): of the model, for the message.

    Raises:
        AdapterError: they differ, a tensor is not of a floating type or int64, or the file cannot be read.
    """
    found, kinds = _header(path)
    file, hint = os.path.basename(path), "the files come from different runs; save the adapter again"
    for key in sorted({*found, *expected}):
        if key not in found:
            raise AdapterError(f"{file} of {name} lacks {key}, of shape {expected[key]}", hint=hint)
        if key not in expected:
            raise AdapterError(f"{file} of {name} holds {key}, which its configuration does not know", hint=hint)
        if found[key] != expected[key]:
            raise AdapterError(
                f"{file} of {name}: {key} has shape {found[key]}, its configuration and base need {expected[key]}",
                hint="the files come from different runs, or the adapter belongs to a base of another size",
            )
    strange = sorted(key for key, kind in kinds.items() if kind not in ("F32", "F16", "BF16", "I64"))
    if strange:
        raise AdapterError(f"{file} of {name}: {strange[0]} is of type {kinds[strange[0]]}", hint=hint)


def check_base_header(
    paths: Sequence[str | os.PathLike[str]], expected: Mapping[str, tuple[int, ...]], name: str
) -> None:
    """Compare the weights of a base, by their headers, with the shapes that its configuration claims.

    Args:
        paths (`Sequence[str | PathLike]`): `model.safetensors`, or all shards.
        expected (`Mapping`): name → shape of every weight that must be there.
        name (`str`): of the base, for the message.

    Raises:
        AdapterError: a weight is missing or has another shape.
    """
    found: dict[str, tuple[int, ...]] = {}
    for path in paths:
        found |= _header(path)[0]
    for key, shape in expected.items():
        if found.get(key) != shape:
            raise AdapterError(
                f"{key} of the base {name} has shape {found.get(key)}, its config.json claims {shape}",
                hint="the files come from different models, or one is incomplete",
            )


def check_finite(tensors: Mapping[str, Tensor], file: str, name: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        AdapterError: a tensor holds one.
    """
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise AdapterError(
                f"{key} in {file} of {name} holds values that are not finite",
                hint="the training went wrong, or the file is damaged",
            )


def _header(path: str | os.PathLike[str]) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
            shapes = {key: tuple(part.get_shape()) for key, part in slices.items()}
            kinds = {key: str(part.get_dtype()) for key, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path} cannot be read: {error}", hint="it is damaged: copy or save it again") from error
    return shapes, kinds


def _check_limits(values: Mapping[str, Any], limits: Mapping[str, int], name: str, where: str = "") -> None:
    for key, limit in limits.items():
        value = values.get(key)
        if value is None:
            continue
        lowest = 0 if key in _MAY_BE_ZERO else 1
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= limit:
            raise AdapterError(
                f"{where}{key} in config.json of {name} is {shortened(value)}",
                hint=f"a whole number from {lowest} to {limit}",
            )


def _check_wrapped(values: Any, name: str) -> None:
    """The configuration inside that of a wrapped language model; its own class checks the rest."""
    if not isinstance(values, dict):
        raise AdapterError(f"lm_config in config.json of {name} is {shortened(values)}", hint="an object")
    _check_limits(values, _WRAPPED_LIMITS, name, "lm_config.")
    _check_kinds(values, name)


def _check_kinds(values: Mapping[str, Any], name: str) -> None:
    """Refuse values of kinds that would fail later, or that make transformers fetch code (attention kernels)."""

    def refuse(key: str, hint: str) -> AdapterError:
        return AdapterError(f"{key} in config.json of {name} is {shortened(values[key])}", hint=hint)

    for key in ("_attn_implementation", "attn_implementation"):
        if values.get(key) not in _ATTENTIONS:
            raise refuse(key, "'sdpa' or 'eager'; kernels of others are not fetched")
    for key in ("dtype", "torch_dtype"):
        if values.get(key) not in _DTYPES:
            raise refuse(key, "'float32', 'float16' or 'bfloat16'")
    for key in _NUMBERS:
        value = values.get(key)
        if value is not None and (not isinstance(value, int | float) or not math.isfinite(value)):
            raise refuse(key, "a finite number")
        if value is not None and key.endswith("dropout") and not 0 <= value <= 1:
            raise refuse(key, "a share from 0 to 1")
    seed = values.get("seed")
    if seed is not None and (not isinstance(seed, int) or not 0 <= seed < 2**63):
        raise refuse("seed", "a whole number from 0 to 2^63 - 1")
    for key in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
        token = values.get(key)
        if token is not None and (type(token) is not int or not 0 <= token < _LIMITS["vocab_size"]):
            raise refuse(key, "a token id")
    activation = values.get("activation_function")
    if activation is not None and not (isinstance(activation, str) and activation in ACT2FN):
        raise refuse("activation_function", "one that transformers knows")


def _check_records(values: Mapping[str, Any], name: str) -> None:
    def refuse(key: str, hint: str) -> AdapterError:
        return AdapterError(f"{key} in config.json of {name} is {shortened(values[key])}", hint=hint)

    for key in _RECORDS:
        record = values.get(key)
        if record is not None and not (isinstance(record, dict) and all(isinstance(part, str) for part in record)):
            raise refuse(key, "an object")
    base = values.get("base_fingerprint")
    if base is not None and (not isinstance(base.get("weights"), str) or base.get("dtype") not in _DTYPES):
        raise refuse("base_fingerprint", "with weights, a SHA-256, and dtype")
    if base is not None and not isinstance(base.get("version", ""), str):
        raise refuse("base_fingerprint", "its version is a string")
    for key in ("file_sha256", "trained_with"):
        if not all(isinstance(part, str) for part in (values.get(key) or {}).values()):
            raise refuse(key, "an object of strings")


def _check_labels(labels: Any, name: str) -> None:
    if not isinstance(labels, dict) or len(labels) > _LIMITS["num_labels"]:
        raise AdapterError(f"id2label in config.json of {name} is {shortened(labels)}", hint="class index → name")
    try:
        indices = sorted(int(index) for index in labels)
    except (TypeError, ValueError):
        indices = [-1]
    if not labels or indices != list(range(len(labels))) or not all(isinstance(one, str) for one in labels.values()):
        raise AdapterError(
            f"id2label in config.json of {name} has classes {shortened(sorted(map(str, labels)))}",
            hint="they must be 0, 1, … with names",
        )


def _check_sequences(sequences: Any, name: str) -> None:
    if sequences is None:
        return
    whole = isinstance(sequences, list) and all(
        isinstance(row, list) and len(row) <= 100 and all(isinstance(token, int) for token in row) for row in sequences
    )
    if (
        not whole
        or not 0 < len(sequences) <= _MAX_CLASSES_OF_SEQUENCES
        or len(sequences) * (len(sequences[0]) - 1) > _MAX_TREE_NODES
    ):
        raise AdapterError(
            f"label_sequences in config.json of {name} is {shortened(sequences)}",
            hint=f"at most {_MAX_CLASSES_OF_SEQUENCES} rows of label-token ids",
        )


def _check_speech(values: Mapping[str, Any], name: str) -> None:
    """Target units, and the name of a vocoder; whether they go together is the configuration's to say."""
    if values.get("target_units") is not None:
        try:
            check_target_units(values["target_units"])
        except ConfigurationError as error:
            raise AdapterError(
                f"config.json of {name}: {Exception.__str__(error)}", hint=error.hint or "save it again"
            ) from error
    for key in ("speech_task", "vocoder_name_or_path", "vocoder_revision"):
        value = values.get(key)
        if value is not None and (not isinstance(value, str) or len(value) > _MAX_NAME):
            raise AdapterError(
                f"{key} in config.json of {name} is {shortened(value)}", hint=f"a text of up to {_MAX_NAME} letters"
            )


def shortened(value: Any) -> str:
    """A value of a stranger's file for a message, of a line's length at most."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]} …"
