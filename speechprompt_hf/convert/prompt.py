"""Prompts that SpeechPrompt v1 and v2 trained → adapters that `AutoModel` and stock PEFT open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.conversion import CONVERSION_FILE
from ..core.digest import sha256_of_file
from ..core.files import write_json
from ..core.vocabulary import SEPARATOR_TOKEN_ID, SPECIAL_TOKENS
from ..modeling.base_loading import base_fingerprint, public_base_name
from ..modeling.configuration_speechprompt import SpeechPromptConfig
from ..modeling.modeling_for_audio_classification import SpeechPromptForAudioClassification
from ..modeling.prompt_deep import DeepPrompt
from ..modeling.prompt_input import InputPrompt
from ..modeling.publishing import loaded_commit
from ..modeling.unit_language_model import UnitLanguageModel
from .checkpoint_weights import checked_content, weight_reader
from .errors import ConversionError
from .file_kinds import expecting
from .new_folder import new_folder
from .prompt_base import Base, load_gslm, processor_of_base, vocabulary_of_base
from .prompt_keys import MAX_TENSORS, BaseSizes, PromptPlan, plan_prompt
from .prompt_labels import Classes, JsonOrPath, read_classes, read_labels
from .torch_file import TorchFile, open_torch_file
from .torch_names import LazyTensor

__all__ = ["convert_prompt"]

_NUM_SPECIAL = len(SPECIAL_TOKENS)


def convert_prompt(
    source: str | Path,
    destination: str | Path,
    base: Base,
    *,
    verbalizer: JsonOrPath | None = None,
    task: str | None = None,
    labels: JsonOrPath | None = None,
    classes: JsonOrPath | None = None,
    dictionary: str | Path | None = None,
    base_revision: str | None = None,
) -> dict[str, Any]:
    """Make an adapter of an official prompt checkpoint; nothing in it is executed.

    Args:
        source (`str | Path`): the prompt's checkpoint, for example `checkpoint_best.pt`; not `base_prompt_model.pt`,
            which holds the language model.
        destination (`str | Path`): the new folder: `config.json`, `adapter_config.json`, `adapter_model.safetensors`,
            `verbalizer.safetensors`, `dict.txt`, `README.md`, and `conversion.json`, which says what became of what;
            where the base has a processor, also `processor_config.json` and `tokenizer_config.json`, which name the
            base.
        base (`str | PathLike | UnitLanguageModel`): the converted language model that the prompt was trained on, with
            its processor if the adapter shall read recordings: folder, Hub id, or the model. Deep prompts are stored
            behind its projections, so its fingerprint is kept.
        verbalizer (`Mapping | str | Path`, *optional*): v2's `verbalizer.json` or v1's `verbal.json`, label → unit;
            needed where the checkpoint has no linear verbalizer.
        task (`str`, *optional*): the task in `verbal.json`, such as `"KS"`.
        labels (`Sequence | str | Path`, *optional*): label names in class order, or a JSON file with them; needed
            where there is a linear verbalizer and no `verbalizer.json`.
        classes (`Mapping | Sequence | str | Path`, *optional*): for several labels an utterance: class name → labels,
            or label sequences. One class a label without it.
        dictionary (`str | Path`, *optional*): fairseq's `dict.txt`, for a base without one.
        base_revision (`str`, *optional*): the base's revision on the Hub.

    Returns:
        `dict`: the content of `conversion.json`, and `output`.

    Raises:
        ConversionError: the checkpoint is damaged, hostile, no prompt, or of another base; or the labels do not fit.
            Nothing is left behind.
        AdapterError: there is no such base.
        ConfigurationError: a file of the base's processor is damaged.
        FingerprintMismatchError: the base's processor makes other units than the base was trained on.
    """
    with expecting("prompt", source), new_folder(destination) as folder, open_torch_file(source) as file:
        content, state = checked_content(file)
        if len(state) >= MAX_TENSORS:
            raise ConversionError(
                f"{file.name} has {len(state)} tensors, a prompt has fewer than {MAX_TENSORS}",
                hint="it holds a whole language model: prompts are saved as checkpoint_best.pt, and language models "
                "are converted with convert_gslm",
            )
        lm = load_gslm(base, base_revision)
        sizes = BaseSizes(lm.config.hidden_size, lm.config.num_hidden_layers, lm.config.vocab_size)
        plan = plan_prompt(state, content, sizes, file.name)
        vocabulary = vocabulary_of_base(base, lm, dictionary)
        num_rows = plan.num_classes + _NUM_SPECIAL if plan.verbalizer else None
        found = read_labels(verbalizer, task, labels, vocabulary, num_rows)
        chosen = read_classes(classes, found)
        config = _config(plan, chosen, lm, base, base_revision)
        processor = processor_of_base(base, config.base_revision, vocabulary)
        model = _model(config, lm, chosen, file.name)
        model.vocabulary = vocabulary
        if processor is not None:
            config.unit_fingerprint = config.unit_fingerprint or processor.fingerprint
            model.attach_processor(processor)
        with torch.no_grad():
            _fill(model, plan, chosen, file, state)
        model.save_pretrained(folder)
        # What a stranger's adapter is refused for is found now, not by whoever opens it.
        SpeechPromptForAudioClassification.from_pretrained(folder, base=lm)
        record = {
            "source": Path(source).name,
            "source_sha256": sha256_of_file(Path(source)),
            "base": config.base_model_name_or_path,
            "base_fingerprint": config.base_fingerprint,
            "reads": "units" if processor is None else "recordings",
            "prompt": plan.kind,
            "columns": plan.num_columns,
            "verbalizer": "linear" if plan.verbalizer else "fixed",
            "classes": len(chosen.names),
            "parameters": model.num_trained_parameters(),
            "tokens_of_labels": dict(zip(chosen.label_names, chosen.tokens, strict=True)),
            "tokens_of_several_labels": sorted(
                token for token, number in Counter(chosen.tokens).items() if number > 1
            ),
            "rows_left_out": _rows_left_out(plan, chosen),
            "keys_left_out": plan.left_out,
            "entries_left_out": sorted(str(key)[:100] for key in content if key != "model"),
        }
        write_json(folder / CONVERSION_FILE, record)
    return {"output": str(destination), **record}


def _config(
    plan: PromptPlan,
    classes: Classes,
    lm: UnitLanguageModel,
    base: Base,
    revision: str | None,
) -> SpeechPromptConfig:
    sequences = None if classes.sequences is None else [list(sequence) for sequence in classes.sequences]
    config = SpeechPromptConfig(
        prompt_type=plan.kind,
        num_virtual_tokens=plan.num_columns,
        separator_init="normal",
        # Which rule made a fixed map is not on record; only random ones give two labels one unit.
        verbalizer=(
            "learnable"
            if plan.verbalizer
            else "random"
            if len(set(classes.tokens)) < len(classes.tokens)
            else "frequency"
        ),
        verbalizer_dropout=0.1 if plan.verbalizer else 0.0,
        readout="separator",
        label_feedback="token",
        label_sequences=sequences,
        label_tokens=None if sequences is None else list(classes.label_names),
        id2label=dict(enumerate(classes.names)),
        label2id={name: index for index, name in enumerate(classes.names)},
        vocab_size=lm.config.vocab_size,
        hidden_size=lm.config.hidden_size,
        base_model_name_or_path=public_base_name(base),
        base_revision=revision,
        base_fingerprint=base_fingerprint(lm),
        unit_fingerprint=lm.config.fingerprint,
    )
    config.base_revision = getattr(lm.config, "_commit_hash", None) or loaded_commit(config)
    return config


def _model(
    config: SpeechPromptConfig, lm: UnitLanguageModel, classes: Classes, name: str
) -> SpeechPromptForAudioClassification:
    used = sorted({token for sequence in classes.sequences or () for token in sequence}) or range(len(classes.tokens))
    tokens = torch.tensor([classes.tokens[label] for label in used])
    feeds_back = config.num_label_positions > 1
    if feeds_back and int(tokens.max()) >= config.vocab_size:
        raise ConversionError(
            f"label {classes.label_names[used[int(tokens.argmax())]][:60]!r} is row {int(tokens.max())} of the linear "
            f"verbalizer in {name}, which upstream feeds back as a token, and the base has {config.vocab_size}",
            hint="so many labels can only be read one an utterance",
        )
    return SpeechPromptForAudioClassification(config, lm, tokens)


def _fill(
    model: SpeechPromptForAudioClassification,
    plan: PromptPlan,
    classes: Classes,
    file: TorchFile,
    state: Mapping[str, LazyTensor],
) -> None:
    """Put the checkpoint's values into the model."""

    def read(key: str) -> Tensor:
        return weight_reader(file, key, state[key], torch.float32)()

    prompt = model.prompt
    if isinstance(prompt, DeepPrompt):
        num_layers = len(prompt.keys)
        for layer in range(num_layers):
            prompt.keys[layer] = read(plan.vectors[layer])
            prompt.values[layer] = read(plan.vectors[num_layers + layer])
    else:
        assert isinstance(prompt, InputPrompt)
        prompt.vectors.copy_(read(plan.vectors[0]))
    if plan.separator is None:
        prompt.separator_offset.zero_()
    else:
        start = model.lm.get_input_embeddings().weight[SEPARATOR_TOKEN_ID].detach().float()
        prompt.separator_offset.copy_(read(plan.separator) - start)
    if plan.verbalizer is not None:
        verbalizer = model.verbalizer
        assert verbalizer.weight is not None
        rows = [classes.tokens[label] for _, label in verbalizer.rows.labels]
        verbalizer.weight.copy_(read(plan.verbalizer)[rows])


def _rows_left_out(plan: PromptPlan, classes: Classes) -> dict[str, str]:
    """Rows of the linear verbalizer that no class has."""
    if plan.verbalizer is None:
        return {}
    labels = range(len(classes.tokens)) if classes.sequences is None else {i for row in classes.sequences for i in row}
    used = {classes.tokens[label] for label in labels}
    return {
        str(row): f"{SPECIAL_TOKENS[row]} is no label" if row < _NUM_SPECIAL else "no class has this label"
        for row in range(plan.num_classes + _NUM_SPECIAL)
        if row not in used
    }
