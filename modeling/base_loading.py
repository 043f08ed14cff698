"""Loading a base and making sure that it is the one an adapter was trained on."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from ..core.digest import sha256_of_json, sha256_of_tensors
from ..core.embedded import EMBEDDED_BASES, embedded_name, resolve_base
from ..core.errors import AdapterError, FingerprintMismatchError, SpeechPromptError
from ..core.locations import check_is_there, looks_like_a_path, reading
from ..core.vocabulary import UnitVocabulary
from .adapter_files import HUB_KEYS, find_file
from .base_files import load_stock_base, weight_files
from .bases import base_class, base_types
from .embeddings import belongs_to_adapters
from .unit_language_model import UnitLanguageModel
from .untrusted import check_base_header, check_config_values, read_config_file

__all__ = ["base_fingerprint", "base_vocabulary", "check_base", "known_vocabulary", "load_base", "public_base_name"]

_DIGEST = "_speechprompt_base_fingerprint"


def load_base(
    base: str | os.PathLike[str] | UnitLanguageModel,
    *,
    revision: str | None = None,
    dtype: torch.dtype | str | None = None,
    trust_remote_code: bool | None = None,
    **hub: Any,
) -> UnitLanguageModel:
    """The frozen language model.

    Args:
        base (`str | PathLike | UnitLanguageModel`): Hub id, folder, name of an embedded base, or the model itself.
        revision (`str`, *optional*): revision on the Hub.
        dtype (`torch.dtype | str`, *optional*): precision of the base; float32 by default. Its weights are identified
            before they are rounded.
        trust_remote_code (`bool`, *optional*): for bases with code of their own.
        hub: further keywords of `from_pretrained`.

    Returns:
        `UnitLanguageModel`: in evaluation mode, without gradients.

    Raises:
        AdapterError: there is no such base, it is no unit language model of this package, or its weights are damaged.
    """
    if isinstance(base, UnitLanguageModel):
        lm: Any = base
    else:
        name = resolve_base(os.fspath(base))
        _refuse_processor_alone(name)
        options = {"revision": revision} if revision is not None else {}
        where = {key: value for key, value in {**options, **hub}.items() if key in HUB_KEYS}
        check_is_there(name, AdapterError, "the base", "config.json", **where)
        path = find_file(name, "config.json", what="the base", **where)
        values = read_config_file(path) if path is not None else {}
        lm = load_stock_base(name, values, path, hub.get("attn_implementation"), where)
        is_seq2seq = lm is None and _check_claims(name, values, where)
        with reading(name, AdapterError, "the base"):
            auto_class = AutoModelForSeq2SeqLM if is_seq2seq else AutoModelForCausalLM
            lm = lm or auto_class.from_pretrained(
                name,
                dtype=torch.float32,
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                **options,
                **hub,
            )
    if not isinstance(lm, UnitLanguageModel):
        raise AdapterError(
            f"the base {base} is a {type(lm).__name__}, no unit language model of this package",
            hint=f"prompts need a model whose model_type is one of {', '.join(base_types())}",
        )
    lm.requires_grad_(False)
    if isinstance(dtype, str):
        dtype = None if dtype == "auto" else getattr(torch, dtype)
    if dtype is not None and dtype != lm.dtype:
        base_fingerprint(lm)
        lm.to(dtype)  # type: ignore[arg-type]
        lm.get_input_embeddings().separator.float()
    return lm.eval()


def _refuse_processor_alone(name: str) -> None:
    """A folder of `quantize` is half a base; transformers would only say that it knows no such model."""
    if os.path.isfile(os.path.join(name, "processor_config.json")) and not find_file(name, "config.json"):
        raise AdapterError(
            f"{name} holds a processor but no language model",
            hint=f"speechprompt pretrain --base {name} makes one, on units that speechprompt units --base {name} made",
        )


def _check_claims(name: str, values: dict[str, Any], hub: dict[str, Any]) -> bool:
    """Compare a base's weights with the sizes in its configuration before anything of these sizes is made.

    Returns:
        `bool`: whether the configuration is that of an encoder-decoder model.
    """
    if not values:  # transformers says what is missing
        return False
    kind = base_class(values.get("model_type"))
    if kind is None:
        raise AdapterError(
            f"the base {name} is of model_type {values.get('model_type')!r}, no unit language model of this package",
            hint=f"prompts need a model whose model_type is one of {', '.join(base_types())}",
        )
    check_config_values(values, name)
    weights = weight_files(name, hub)
    if weights:
        check_base_header(weights, _expected_shapes(values, kind, name), name)
    return kind.peft_task_type == "SEQ_2_SEQ_LM"


def _expected_shapes(values: dict[str, Any], kind: type[UnitLanguageModel], name: str) -> dict[str, tuple[int, ...]]:
    """Name → shape of the weights of a base, without making them."""
    assert kind.config_class is not None
    try:
        config = kind.config_class.from_dict(values)
        with torch.device("meta"):
            model = kind(config)
    except SpeechPromptError:
        raise
    # A stranger's values fail in whatever way the layers made of them fail.
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise AdapterError(
            f"config.json of {name} describes no model: {error}"[:300], hint="it is damaged: save or copy it again"
        ) from error
    optional = ("lm_head.weight",) if config.tie_word_embeddings else ()
    return {
        key: tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
        if not belongs_to_adapters(key) and key not in optional
    }


def base_fingerprint(lm: UnitLanguageModel) -> dict[str, Any]:
    """Identity of a base's weights, computed once for each model object as long as nothing is written into them.

    Returns:
        `dict`: `weights`, the sha256 over all weights as float32 without the separator and over the heads, activation
        and scaling of the configuration, `dtype`, the precision that the weights had, and `version`, where the base
        has one.
    """
    # Counts what is written into a parameter in place; it is kept when the model moves or is rounded.
    current = (sum(parameter._version for parameter in lm.parameters()), _function(lm))
    stamp, known = cast(tuple[Any, dict[str, Any]], getattr(lm, _DIGEST, (None, {})))
    if stamp != current:
        known = {"weights": _digest(lm, lm.dtype), "dtype": str(lm.dtype).removeprefix("torch.")}
        setattr(lm, _DIGEST, (current, known))
    version = getattr(lm.config, "base_version", None)
    return {**known, "version": version} if version is not None else dict(known)


def _function(lm: UnitLanguageModel) -> dict[str, Any]:
    """What the configuration says of the function that the weights compute."""
    return {name: deepcopy(getattr(lm.config, name)) for name in lm.function_fields}


def base_vocabulary(base: str | os.PathLike[str] | nn.Module) -> UnitVocabulary | None:
    """The vocabulary in a base's `dict.txt`; `None` where it has none, or the model no name."""
    name = getattr(base, "name_or_path", None) if isinstance(base, nn.Module) else os.fspath(base)
    if not name or (isinstance(base, nn.Module) and looks_like_a_path(name) and not os.path.isdir(name)):
        return None
    path = find_file(resolve_base(name), "dict.txt")
    return None if path is None else UnitVocabulary.from_dict_txt(path)


def known_vocabulary(processor: Any, base: str | os.PathLike[str] | nn.Module) -> UnitVocabulary | None:
    """Which token each unit is, as a processor says it, else `base_vocabulary`; `None` where nothing does.

    Args:
        processor (`SpeechUnitProcessor`, *optional*): makes the units.
        base (`str | PathLike | PreTrainedModel`): reads them.
    """
    tokenizer = getattr(processor, "tokenizer", None)
    return base_vocabulary(base) if tokenizer is None else tokenizer.vocabulary


def _digest(lm: UnitLanguageModel, dtype: torch.dtype) -> str:
    weights = {
        name: tensor.to(dtype)
        for name, tensor in lm.state_dict().items()
        if not belongs_to_adapters(name) and name != "lm_head.weight"
    }
    if not lm.config.tie_word_embeddings:
        weights["lm_head.weight"] = lm.lm_head.weight.to(dtype)
    return sha256_of_json({"weights": sha256_of_tensors(weights), **_function(lm)})


def check_base(lm: UnitLanguageModel, recorded: dict[str, Any] | None, name: str) -> None:
    """Refuse a base with other weights than those that an adapter was trained on.

    Args:
        lm (`UnitLanguageModel`): the base that was loaded.
        recorded (`dict`, *optional*): the fingerprint in the adapter; nothing is checked without it.
        name (`str`): how the error calls the base.

    Raises:
        FingerprintMismatchError: the weights differ.
    """
    if not recorded:
        return
    found = base_fingerprint(lm)
    if found["weights"] != recorded["weights"] and found["dtype"] != recorded.get("dtype", found["dtype"]):
        # The adapter was trained on a rounded base; round this one likewise before comparing.
        found["weights"] = _digest(lm, getattr(torch, recorded["dtype"]))
    if found["weights"] != recorded["weights"]:
        raise base_mismatch(found, recorded, name)


def base_mismatch(found: dict[str, Any], recorded: dict[str, Any], name: str) -> FingerprintMismatchError:
    """The error that an adapter was trained on another base, with both versions where they have some.

    Args:
        found (`dict`): the fingerprint of the base.
        recorded (`dict`): the fingerprint in the adapter.
        name (`str`): how the error calls the base.
    """
    name = embedded_name(name) or name
    if name in EMBEDDED_BASES and "version" in found and "version" not in recorded:
        # The first one recorded none.
        recorded = {**recorded, "version": "1 or older"}
    return FingerprintMismatchError(
        f"the base {name} {_which(found, 'has')}, the adapter was trained on {_which(recorded)}",
        hint=_remedy(found, recorded),
    )


def _which(fingerprint: dict[str, Any], verb: str = "") -> str:
    """A base by its version, if it has one, and weights; `verb` in front where there is no version to speak of."""
    weights = str(fingerprint["weights"])[:16]
    if "version" in fingerprint:
        return f"{'is ' if verb else ''}version {fingerprint['version']} ({weights})"
    return f"{verb} weights {weights}" if verb else f"weights {weights}"


def _remedy(found: dict[str, Any], recorded: dict[str, Any]) -> str:
    if found.get("version") == recorded.get("version"):
        return "load the adapter with the base, at the revision, that it was trained on"
    return (
        "train the adapter again on this version, or open it with the base that it was trained on (of the base inside "
        "this package, whose version speechprompt doctor names: with the release that it came with)"
    )


def public_base_name(base: str | os.PathLike[str] | nn.Module) -> str | None:
    """How an adapter names its base: a Hub id as given, the stable name of an embedded base, or an absolute folder."""
    name = getattr(base, "name_or_path", None) if isinstance(base, nn.Module) else os.fspath(base)
    if not name:
        return None
    folder = Path(name)
    if not folder.is_dir():
        return name
    return embedded_name(folder) or str(folder.resolve())
