"""Prompted unit language models: how they are put together, saved and opened."""

from __future__ import annotations

import os
import re
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from peft import PeftModel
from torch import Tensor

from ..core.errors import AdapterError
from ..core.files import write_text
from ..core.versions import package_versions
from ..core.vocabulary import UnitVocabulary
from .adapter_card import write_card
from .adapter_files import (
    GENERATION,
    HUB_KEYS,
    OUTPUT_TOKENIZER,
    TRAINING_STATE,
    VERBALIZER,
    VOCABULARY,
    check_adapter,
    file_digests,
    load_prompt,
    load_training_state,
    pinned,
    read_peft_config,
    read_tensors,
    save_prompt,
    save_tensors,
    training_state,
    untrained_names,
)
from .adapter_reading import LANGUAGE_MODEL_FOLDER, load_language_model, mismatches, read_config
from .attached_processor import ModelWithProcessor
from .base_loading import base_fingerprint, check_base, load_base, public_base_name
from .configuration_speechprompt import SpeechPromptConfig
from .embeddings import belongs_to_adapters
from .prompt_base import PromptModule
from .prompt_deep import DeepPrompt
from .prompt_initialization import TrainingRows
from .prompt_input import InputPrompt
from .publishing import loaded_commit, upload_options
from .saved_processor import save_processor
from .unit_language_model import UnitLanguageModel
from .verbalizer_kinds import verbalizer_class

__all__ = ["SpeechPromptPreTrainedModel"]

# Purpose → what an adapter of it does, and the class that opens it.
_PURPOSES = {
    "classification": ("is a classifier", "SpeechPromptForAudioClassification"),
    "sequences": ("says sequences", "SpeechPromptForSequenceGeneration"),
    "speech": ("answers with speech", "SpeechPromptForSpeechGeneration"),
}
_SHAPING_PACKAGES = ("speechprompt-hf", "transformers", "peft", "torch")


class SpeechPromptPreTrainedModel(ModelWithProcessor):
    """A frozen unit language model with a prompt and a verbalizer.

    Only the prompt, the separator and the verbalizer have gradients (with the method `"finetune"` the language model
    has them, too). Saving writes a stock PEFT adapter, the verbalizer and the configuration, never the base.

    Args:
        config (`SpeechPromptConfig`): what is built.
        lm (`UnitLanguageModel`): the language model; kept, not copied.
        unit_tokens (`LongTensor` of shape `(T,)`, *optional*): unit tokens of a fixed verbalizer.
        rows (`TrainingRows`, *optional*): what a prompt begins with may depend on them; without them it is zero then,
            until a saved one fills it.
    """

    config_class = SpeechPromptConfig
    config: SpeechPromptConfig
    base_model_prefix = "lm"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    # The loss is a mean over rows: gradient accumulation must average it, which Trainer does unless forward takes
    # **kwargs.
    accepts_loss_kwargs = False
    _supports_sdpa = True
    says_sequences: ClassVar[bool] = False
    """Whether adapters of this class have an output vocabulary."""
    purpose: ClassVar[str] = "classification"
    """`purpose` of the configurations of the adapters that this class opens."""

    def __init__(
        self,
        config: SpeechPromptConfig,
        lm: UnitLanguageModel,
        unit_tokens: Tensor | None = None,
        rows: TrainingRows | None = None,
    ) -> None:
        super().__init__(config)
        generator = torch.Generator().manual_seed(config.seed)
        self.prompt: PromptModule | None
        # A place of its own even while it is empty: an optimizer's state counts parameters in their order.
        self.register_module("prompt", None)
        if config.method == "prompt":
            kind = DeepPrompt if config.prompt_type == "deep" else InputPrompt
            self.prompt = kind(config, lm, generator, rows)
        self.verbalizer: Any = verbalizer_class(config)(config, unit_tokens)
        # Before the language model is attached: post_init initialises every weight that it can see.
        self.post_init()
        self.lm = lm
        self.lm.requires_grad_(config.method == "finetune")
        for name, parameter in self.lm.named_parameters():
            if belongs_to_adapters(name):
                parameter.requires_grad_(False)
        # What checkpoints leave out: Trainer does not call it missing when it loads one.
        self._keys_to_ignore_on_save = untrained_names(self)

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Nothing: prompts and verbalizers draw their own seeded values."""

    def train(self, mode: bool = True) -> Self:
        """Training mode for prompt and verbalizer; a frozen language model stays without dropout, as in the paper."""
        super().train(mode)
        if self.config.method != "finetune":
            self.lm.eval()
            # Layers checkpoint gradients only in training mode; their dropouts are modules of their own and stay off.
            for module in self.lm.checkpointing_modules():
                module.training = mode
        return self

    def num_trained_parameters(self) -> int:
        """Numbers that training changes."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    # Saving

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        push_to_hub: bool = False,
        *,
        save_training_state: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write `config.json`, the PEFT adapter, `verbalizer.safetensors`, `dict.txt` and `README.md`; never the base.

        An attached processor is written too, without its encoder: it names the base that has one.

        With the method `"finetune"` the language model is written too, with `"probe"` there is no adapter.

        Args:
            save_directory (`str | PathLike`): the folder.
            is_main_process (`bool`, defaults to `True`): other processes write nothing.
            state_dict (`dict`, *optional*): ignored; Trainer may pass the whole state, base included.
            push_to_hub (`bool`, defaults to `False`): upload it afterwards, see [`push_to_hub`].
            save_training_state (`bool`, defaults to `False`): also write what is trained as it is, from which
                training goes on exactly; folders with the names of Trainer's checkpoints, `checkpoint-N`, always
                have it.
            kwargs: `repo_id`, `commit_message`, `private`, `token`, `revision`, `create_pr` for the upload; others are
                ignored.

        Raises:
            HubError: with `push_to_hub`, the base is not on the Hub; the folder is written.
        """
        if not is_main_process:
            return
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        if self.prompt is not None:
            save_prompt(
                folder,
                self.prompt,
                self.lm,
                base=self.config.base_model_name_or_path,
                revision=self.config.base_revision,
            )
        if self.config.method == "finetune":
            self.lm.save_pretrained(folder / LANGUAGE_MODEL_FOLDER)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.verbalizer.state_dict().items()}
        save_tensors(folder / VERBALIZER, tensors)
        save_processor(self._processor, folder, self.config)
        write_text(folder / VOCABULARY, self.vocabulary.to_dict_txt())
        self.config.architectures = [type(self).__name__]
        if not self.says_sequences:
            # Of another adapter that was saved here.
            for name in (OUTPUT_TOKENIZER, GENERATION):
                (folder / name).unlink(missing_ok=True)
        self.config.file_sha256 = file_digests(folder, self.config)
        self.config.save_pretrained(folder)
        if save_training_state or re.fullmatch(r"checkpoint-\d+", folder.name):
            save_tensors(folder / TRAINING_STATE, training_state(self))
        else:
            (folder / TRAINING_STATE).unlink(missing_ok=True)
        if not (folder / "README.md").exists():
            write_card(folder, self.config, self.num_trained_parameters())
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", folder.name), **upload_options(kwargs))

    def to_peft(self) -> PeftModel:
        """The same prompted language model as a stock `PeftModel` over a copy of the base.

        Raises:
            AdapterError: the model has no prompt.
        """
        if self.prompt is None:
            raise AdapterError(
                f"the method {self.config.method!r} has no prompt", hint="only method 'prompt' is an adapter"
            )
        with tempfile.TemporaryDirectory() as folder:
            save_prompt(Path(folder), self.prompt, self.lm, base=None, revision=None)
            return PeftModel.from_pretrained(deepcopy(self.lm), folder).eval()

    # Loading

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *args: Any,
        config: Any = None,
        base: str | os.PathLike[str] | UnitLanguageModel | None = None,
        dtype: torch.dtype | str | None = None,
        trust_remote_code: bool | None = None,
        output_loading_info: bool = False,
        attn_implementation: str | None = None,
        adapter_kwargs: dict[str, Any] | None = None,
        ignore_mismatched_fingerprints: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Open a saved adapter together with its base.

        The base is named in the adapter; an embedded base is read from the installed package. The model comes in
        evaluation mode and can be trained on: its prompt has gradients whatever `inference_mode` in
        `adapter_config.json` says, and goes on as a table unless the folder is a checkpoint with the prompt's own
        vectors.

        Args:
            pretrained_model_name_or_path (`str | PathLike`): folder or Hub id of the adapter.
            args: ignored.
            config (`SpeechPromptConfig`, *optional*): instead of the saved one; another class's is ignored.
            base (`str | UnitLanguageModel`, *optional*): instead of the base that the adapter names; must be the same
                weights.
            dtype (`torch.dtype | str`, *optional*): precision of the base, float32 by default; prompts stay in
                float32.
            trust_remote_code (`bool`, *optional*): for bases with code of their own.
            output_loading_info (`bool`, defaults to `False`): return `(model, info)`.
            attn_implementation (`str`, *optional*): `"sdpa"` or `"eager"`.
            adapter_kwargs (`dict`, *optional*): what the Auto classes know about the adapter: its id and revision.
            ignore_mismatched_fingerprints (`bool`, defaults to `False`): warn instead of refusing a base or a
                processor that is not the recorded one; the model's answers mean little then.
            kwargs: `revision`, `subfolder`, `token`, `cache_dir`, `force_download`, `local_files_only`.

        Raises:
            AdapterError: a file is missing or does not fit.
            FingerprintMismatchError: the base has other weights than those that the adapter was trained on.
        """
        adapter_kwargs = dict(adapter_kwargs or {})
        name = os.fspath(adapter_kwargs.get("_adapter_model_path") or pretrained_model_name_or_path)
        hub = {
            key: value for key, value in {**kwargs, **adapter_kwargs}.items() if key in HUB_KEYS and value is not None
        }
        hub = pinned(name, hub)
        saved = read_config(name, **hub)
        # A copy, because the model's configuration follows its prompt.
        config = deepcopy(config) if isinstance(config, SpeechPromptConfig) else saved
        cls._check_purpose(config, name)
        options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": trust_remote_code}
        if attn_implementation is not None:
            options["attn_implementation"] = attn_implementation
        if config.method == "finetune":
            if base is not None:
                raise AdapterError(
                    f"{name} holds a language model of its own, trained from {config.base_model_name_or_path}",
                    hint="leave base out",
                )
            lm = load_language_model(name, hub, options)
        else:
            lm = cls._load_base_of(name, config, base, hub, options)
            with mismatches(ignore_mismatched_fingerprints):
                check_base(lm, config.base_fingerprint, str(lm.name_or_path or "that was given"))
        check_adapter(name, config, lm, **hub)
        model = cls(config, lm)
        if model.prompt is not None:
            load_prompt(name, model.prompt, lm, **hub)
        model.verbalizer.load_tensors(read_tensors(name, VERBALIZER, **hub))
        load_training_state(name, model, **hub)
        model.config._name_or_path = name
        model._source = (name, hub)
        model._read_what_lies_beside()
        model._ignore_mismatched_fingerprints = ignore_mismatched_fingerprints
        model.to(lm.device)  # type: ignore[arg-type]
        model.eval()
        info: dict[str, Any] = {
            "missing_keys": set(),
            "unexpected_keys": set(),
            "mismatched_keys": set(),
            "error_msgs": [],
        }
        return (model, info) if output_loading_info else model

    def _read_what_lies_beside(self) -> None:
        """Read what an adapter of this class has beside its tensors, while its files are those that were checked."""

    @classmethod
    def _check_purpose(cls, config: SpeechPromptConfig, name: str) -> None:
        """Refuse an adapter of another purpose, whose files would be called damaged."""
        if config.purpose != cls.purpose:
            what, opens = _PURPOSES[config.purpose]
            raise AdapterError(
                f"{name} {what}, and {cls.__name__} opens none of these",
                hint=f"open it with {opens} or AutoModel"
                + ("; or use speechprompt generate ADAPTER RECORDING..." if config.generates_speech else ""),
            )

    @classmethod
    def _load_base_of(
        cls,
        name: str,
        config: SpeechPromptConfig,
        base: str | os.PathLike[str] | UnitLanguageModel | None,
        hub: dict[str, Any],
        options: dict[str, Any],
    ) -> UnitLanguageModel:
        peft_config = read_peft_config(name, **hub) if config.method == "prompt" else None
        revision = config.base_revision
        if base is None and peft_config is not None:
            base, revision = peft_config.base_model_name_or_path, peft_config.revision
        elif base is None:
            base = config.base_model_name_or_path
        if base is None:
            raise AdapterError(
                f"{name} does not name its base, because the base had no name when the adapter was trained",
                hint="pass it: from_pretrained(adapter, base=language_model)",
            )
        base_hub = {key: value for key, value in hub.items() if key not in ("revision", "subfolder")}
        return load_base(base, revision=revision, **options, **base_hub)

    @classmethod
    def _build(
        cls,
        base: Any,
        config: SpeechPromptConfig,
        lm: UnitLanguageModel,
        unit_tokens: Tensor | None,
        processor: Any,
        vocabulary: UnitVocabulary | None,
        rows: TrainingRows | None = None,
    ) -> Self:
        """A new model, with what its configuration must say about the base."""
        config.base_model_name_or_path = public_base_name(base)
        # A base from the Hub is pinned to the commit that was loaded.
        config.base_revision = getattr(lm.config, "_commit_hash", None) or loaded_commit(config)
        config.base_fingerprint = base_fingerprint(lm)
        config.unit_fingerprint = lm.config.fingerprint or getattr(processor, "fingerprint", None)
        config.trained_with = package_versions(_SHAPING_PACKAGES)
        model = cls(config, lm, unit_tokens, rows)
        model.vocabulary = vocabulary
        model.to(lm.device)  # type: ignore[arg-type]
        return model.eval() if processor is None else model.attach_processor(processor).eval()
