"""Configuration of a prompted unit language model: the prompt, the verbalizer, and the base that they belong to."""

from __future__ import annotations

from copy import copy
from typing import Any, Self

from transformers import PreTrainedConfig

from ..core.errors import ConfigurationError, LabelError
from ..core.vocabulary import EOS_TOKEN_ID, PAD_TOKEN_ID, SEPARATOR_TOKEN_ID, SPECIAL_TOKENS
from .configuration_gslm import without_fetched_attention

__all__ = [
    "FORMAT_VERSION",
    "MAX_OUTPUT_VOCAB_SIZE",
    "MAX_VERBALIZER_HIDDEN_SIZE",
    "ROWS_INITS",
    "SPEECH_TASKS",
    "SpeechPromptConfig",
    "check_verbalizer_size",
]

FORMAT_VERSION = 4
"""Of an adapter's files; it rises when an older package would read them wrongly."""

MAX_VERBALIZER_HIDDEN_SIZE = 65_536
"""The most detectors of a verbalizer: 27 MB over 100 units."""

MAX_OUTPUT_VOCAB_SIZE = 65_536
"""The most tokens of an output vocabulary."""

ROWS_INITS = ("frequent_units", "class_means")
"""Values of `prompt_init` that look at the training rows."""

SPEECH_TASKS = ("continuation", "correction", "translation")
"""What an answer of speech is to a recording: what follows it, the same undamaged, or the same in other units."""

_SPEECH_FIELDS = ("target_units", "speech_task", "prompt_seconds", "vocoder_name_or_path", "vocoder_revision")

_CHOICES: dict[str, tuple[str, ...]] = {
    "method": ("prompt", "finetune", "probe"),
    "prompt_type": ("deep", "input"),
    "prompt_parametrization": ("projected", "table"),
    "prompt_layers": ("all", "lower", "upper", "encoder", "decoder"),
    "prompt_init": ("normal", "scaled", "zeros", "vocabulary", *ROWS_INITS),
    "separator_init": ("start", "normal"),
    "verbalizer": ("learnable", "frequency", "random"),
    "readout": ("separator", "pooled", "hidden"),
    "label_feedback": ("token", "mixture", "learned"),
}


def check_verbalizer_size(size: int, verbalizer: str) -> None:
    """Refuse a number of detectors that no verbalizer of this kind has.

    Args:
        size (`int`): `verbalizer_hidden_size`.
        verbalizer (`str`): `"learnable"`, `"frequency"` or `"random"`.

    Raises:
        ConfigurationError: it is no whole number, out of range, or the verbalizer is a fixed one.
    """
    if type(size) is not int or not 0 <= size <= MAX_VERBALIZER_HIDDEN_SIZE:
        raise ConfigurationError(
            f"verbalizer_hidden_size is {size!r}",
            hint=f"a whole number up to {MAX_VERBALIZER_HIDDEN_SIZE}, 0 for a linear verbalizer",
        )
    if size and verbalizer != "learnable":
        raise ConfigurationError(
            f"verbalizer_hidden_size is {size} with a {verbalizer!r} verbalizer",
            hint="a fixed verbalizer trains nothing: verbalizer='learnable', or verbalizer_hidden_size=0",
        )


class SpeechPromptConfig(PreTrainedConfig):
    """Configuration of `SpeechPromptForAudioClassification` and of the models that generate sequences and speech.

    Args:
        method (`str`, defaults to `"prompt"`): `"prompt"` trains a prompt on a frozen base; `"finetune"` trains the
            whole language model, which is then saved with it; `"probe"` trains only the verbalizer on the base's
            hidden states.
        prompt_type (`str`, defaults to `"deep"`): `"deep"`: keys and values in every layer; `"input"`: vectors before
            the tokens.
        num_virtual_tokens (`int`, defaults to 5): prompt columns P.
        prompt_parametrization (`str`, defaults to `"projected"`): what a deep prompt trains: `"projected"`: vectors
            before the frozen key and value projections (the paper's); `"table"`: keys and values themselves (PEFT's).
        prompt_layers (`str`, defaults to `"all"`): the layers in which a deep prompt is trained: `"all"`; `"lower"`,
            `"upper"`: half of them, of encoder and decoder each, the middle one of an odd number being a lower one;
            `"encoder"`, `"decoder"`: one side of an encoder-decoder model. In the others its vectors stay zero, and
            yet take part in attention: see `DeepPrompt`.
        prompt_init (`str`, defaults to `"normal"`): `"normal"`: N(0, 1), the paper's; `"scaled"`: N(0,
            `prompt_init_std`²); `"zeros"`; and what the base makes of units, for deep prompts the normalised states in
            each layer, for input prompts the scaled embeddings: `"vocabulary"`: of random units; `"frequent_units"`:
            of the most frequent units of the training rows; `"class_means"`: the mean over the training rows of a
            class, column j of class j mod M. Columns that begin equal, with `"zeros"` or with more columns than
            classes, are told apart by prompt dropout alone.
        prompt_init_std (`float`, defaults to 0.02): standard deviation of `"scaled"`.
        prompt_dropout (`float`, defaults to 0.1): dropout on the trained prompt vectors, in training.
        separator_init (`str`, defaults to `"start"`): `"start"`: the separator begins as the base's own row of `<s>`;
            `"normal"`: N(0, 1), the paper's.
        verbalizer (`str`, defaults to `"learnable"`): `"learnable"`: one or two layers on the language model's logits;
            `"frequency"`: i-th most frequent label, i-th most frequent unit; `"random"`: one random unit a label,
            without repetition.
        readout (`str`, defaults to `"separator"`): `"separator"`: the position after the separator, the paper's;
            `"pooled"`: highest score over the utterance's positions plus a score of the mean prediction; with two
            layers each detector's maximum and mean over the positions; `"hidden"`: mean hidden state, without the
            output head (what `"probe"` reads).
        label_sequences (`list[list[int]]`, *optional*): M rows of k label-token ids; one label a class without it.
        label_tokens (`list[str]`, *optional*): names of the label tokens.
        label_feedback (`str`, defaults to `"token"`): what the language model sees of an earlier label of a sequence:
            `"token"`: the unit that the label is mapped to; `"mixture"`: softmax(W_y / τ)·E, the journal's;
            `"learned"`: a trained vector a label, for sequence generation alone.
        feedback_temperature (`float`, defaults to 1.0): τ of `"mixture"`.
        verbalizer_dropout (`float`, defaults to 0.0): dropout on class scores, in training; the paper's code has 0.1.
        verbalizer_hidden_size (`int`, defaults to 0): detectors H between a learnable verbalizer's input and its
            labels; 0: one linear map, the paper's.
        unit_dropout (`float`, defaults to 0.0): share of the utterance's units left out, drawn anew at each training
            step.
        normalize_pooled (`bool`, defaults to `True`): readout `"pooled"` brings the logits of each position and the
            mean prediction to zero mean and unit variance over the V tokens; without it logits outweigh probabilities.
        output_vocab_size (`int`, *optional*): tokens K of the output vocabulary of a model that generates sequences,
            `<s>`, `<pad>`, `</s>` and `<unk>` first; `None` for a classifier.
        max_output_tokens (`int`, defaults to 256): the most tokens that are generated, if the call says nothing else.
        target_units (`dict`, *optional*): of a model that answers with speech: `num_units`, the units that it says,
            `fingerprint`, their identity or `None`, and `frame_rate`, frames a second or `None`.
        speech_task (`str`, *optional*): of such a model: `"continuation"`, `"correction"` or `"translation"`.
        prompt_seconds (`float`, *optional*): of such a model that continues: the most seconds of a recording that it
            heard in training; `None` where nobody knows.
        vocoder_name_or_path (`str`, *optional*): of such a model: folder or Hub id of the vocoder that its units are
            for; it is never opened without being asked for.
        vocoder_revision (`str`, *optional*): its revision on the Hub.
        seed (`int`, defaults to 0): seed of all initialisations.
        vocab_size, hidden_size (`int`): sizes V and D of the base.
        num_units (`int`, *optional*): units among these V tokens, where there are other tokens than units and the four
            special ones.
        base_model_name_or_path (`str`, *optional*): the base: a Hub id, a folder, or the stable name of an embedded
            base.
        base_revision (`str`, *optional*): the base's revision on the Hub.
        base_fingerprint (`dict`, *optional*): sha256 of the base's weights.
        unit_fingerprint (`dict`, *optional*): identity of the units, as the processor states it.
        trained_with (`dict`, *optional*): package → version that the adapter was made with.
        file_sha256 (`dict`, *optional*): name → SHA-256 of the tensor files and of `output_tokenizer.json` beside the
            configuration, by which damage on the way is seen.
        format_version (`int`, defaults to 1): of the adapter's files: 4 if it answers with speech, 3 if it generates
            other sequences, 2 with a verbalizer of two layers, else 1; newer ones than this package knows are refused.

    Raises:
        ConfigurationError: an option has a value that does not exist, or options contradict each other.
        LabelError: label sequences do not fit the classes.
    """

    model_type = "speechprompt"

    method: str = "prompt"
    prompt_type: str = "deep"
    num_virtual_tokens: int = 5
    prompt_parametrization: str = "projected"
    prompt_layers: str = "all"
    prompt_init: str = "normal"
    prompt_init_std: float = 0.02
    prompt_dropout: float = 0.1
    separator_init: str = "start"
    verbalizer: str = "learnable"
    readout: str = "separator"
    label_sequences: list[list[int]] | None = None
    label_tokens: list[str] | None = None
    label_feedback: str = "token"
    feedback_temperature: float = 1.0
    verbalizer_dropout: float = 0.0
    verbalizer_hidden_size: int = 0
    unit_dropout: float = 0.0
    normalize_pooled: bool = True
    output_vocab_size: int | None = None
    max_output_tokens: int = 256
    target_units: dict[str, Any] | None = None
    speech_task: str | None = None
    prompt_seconds: float | None = None
    vocoder_name_or_path: str | None = None
    vocoder_revision: str | None = None
    seed: int = 0
    vocab_size: int = 104
    hidden_size: int = 1024
    num_units: int | None = None
    base_model_name_or_path: str | None = None
    base_revision: str | None = None
    base_fingerprint: dict[str, Any] | None = None
    unit_fingerprint: dict[str, Any] | None = None
    trained_with: dict[str, str] | None = None
    file_sha256: dict[str, str] | None = None
    format_version: int = 1

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.label_sequences is not None:
            self.label_sequences = [[int(token) for token in sequence] for sequence in self.label_sequences]
        self.validate_options()
        if self.verbalizer_hidden_size:
            self.format_version = max(self.format_version, 2)
        if self.generates_sequences:
            self.format_version = max(self.format_version, 4 if self.generates_speech else 3)
            # Utterances are read, then sequences are said: transformers' generate calls that an encoder-decoder.
            self.is_encoder_decoder = True
            self.bos_token_id, self.pad_token_id, self.eos_token_id = SEPARATOR_TOKEN_ID, PAD_TOKEN_ID, EOS_TOKEN_ID
            self.decoder_start_token_id = SEPARATOR_TOKEN_ID

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A configuration of the values in a file, without what would let transformers fetch code."""
        return super().from_dict(without_fetched_attention(config_dict), **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The values that are saved; those that only some models have are left out of the others' files."""
        values = super().to_dict()
        left_out = {"num_units"} if values.get("num_units") is None else set()
        left_out |= set() if self.generates_sequences else {"output_vocab_size", "max_output_tokens"}
        left_out |= set() if self.generates_speech else set(_SPEECH_FIELDS)
        return {key: value for key, value in values.items() if key not in left_out}

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Self:
        """What transformers' `generate` reads the number of tokens from, which is that of the output vocabulary."""
        if not self.generates_sequences:
            return self
        config = copy(self)
        config.vocab_size = self.output_vocab_size or 0
        return config

    @property
    def generates_sequences(self) -> bool:
        """Whether the model says sequences of an output vocabulary, and is no classifier."""
        return self.output_vocab_size is not None

    @property
    def generates_speech(self) -> bool:
        """Whether the sequences that the model says are units of speech."""
        return self.target_units is not None

    @property
    def purpose(self) -> str:
        """`"classification"`, `"sequences"` or `"speech"`."""
        if self.generates_speech:
            return "speech"
        return "sequences" if self.generates_sequences else "classification"

    @property
    def num_classes(self) -> int:
        """Classes M."""
        return int(self.num_labels or 0)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, by class index."""
        names = {int(index): str(name) for index, name in (self.id2label or {}).items()}
        return [names[index] for index in range(self.num_classes)]

    @property
    def num_label_positions(self) -> int:
        """Labels k that an utterance has."""
        return len(self.label_sequences[0]) if self.label_sequences else 1

    @property
    def unit_vocab_size(self) -> int:
        """Special tokens and units, which come first among the V tokens."""
        return self.vocab_size if self.num_units is None else len(SPECIAL_TOKENS) + self.num_units

    @property
    def starts_from_rows(self) -> bool:
        """Whether what a new prompt begins with depends on the training rows."""
        return self.method == "prompt" and self.prompt_init in ROWS_INITS

    def validate_options(self) -> None:
        """Check every option and how they go together.

        Raises:
            ConfigurationError: an option has a value that does not exist, or options contradict each other.
            LabelError: label sequences do not fit the classes.
        """
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigurationError(f"{name} is {value!r}", hint=f"one of {', '.join(map(repr, allowed))}")
        if self.prompt_type == "input" and self.prompt_layers != "all":
            raise ConfigurationError(
                f"prompt_layers is {self.prompt_layers!r} with prompt_type 'input'",
                hint="an input prompt stands before all layers: prompt_layers='all', or a deep prompt",
            )
        if self.num_virtual_tokens < 1:
            raise ConfigurationError(f"num_virtual_tokens is {self.num_virtual_tokens}", hint="at least 1")
        for name in ("prompt_dropout", "verbalizer_dropout", "unit_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}", hint="a share in [0, 1)")
        self._validate_verbalizer()
        if self.num_units is not None and not 0 < self.num_units <= self.vocab_size - len(SPECIAL_TOKENS):
            raise ConfigurationError(
                f"num_units is {self.num_units} of {self.vocab_size} tokens",
                hint=f"{len(SPECIAL_TOKENS)} tokens are special ones",
            )
        self._validate_label_sequences()
        self._validate_output()
        self._validate_speech()

    def _validate_output(self) -> None:
        if not self.generates_sequences:
            if self.label_feedback == "learned":
                raise ConfigurationError(
                    "label_feedback 'learned' is for sequence generation", hint="label_feedback='token' or 'mixture'"
                )
            return
        least = len(SPECIAL_TOKENS) + 1
        if type(self.output_vocab_size) is not int or not least <= self.output_vocab_size <= MAX_OUTPUT_VOCAB_SIZE:
            raise ConfigurationError(
                f"output_vocab_size is {self.output_vocab_size!r}",
                hint=f"a whole number from {least} to {MAX_OUTPUT_VOCAB_SIZE}: four special tokens, then what is said",
            )
        if type(self.max_output_tokens) is not int or self.max_output_tokens < 1:
            raise ConfigurationError(f"max_output_tokens is {self.max_output_tokens!r}", hint="at least 1")
        for name, only in (("readout", "separator"), ("label_sequences", None), ("verbalizer_hidden_size", 0)):
            if getattr(self, name) != only:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)!r} in a model that generates sequences", hint=f"{name}={only!r}"
                )
        if self.method == "probe":
            raise ConfigurationError("the method 'probe' generates no sequences", hint="'prompt' or 'finetune'")

    def _validate_speech(self) -> None:
        if not self.generates_speech:
            given = [name for name in _SPEECH_FIELDS if getattr(self, name) is not None]
            if given:
                raise ConfigurationError(
                    f"{given[0]} is {getattr(self, given[0])!r} in a model without target_units",
                    hint="only a model that answers with speech has it: target_units=…",
                )
            return
        num_units = self.target_units.get("num_units") if isinstance(self.target_units, dict) else None
        size = None if type(num_units) is not int else num_units + len(SPECIAL_TOKENS)
        if size is None or self.output_vocab_size != size:
            raise ConfigurationError(
                f"output_vocab_size is {self.output_vocab_size!r} with {num_units!r} target units",
                hint=f"{len(SPECIAL_TOKENS)} special tokens and the units",
            )
        if self.speech_task not in SPEECH_TASKS:
            raise ConfigurationError(
                f"speech_task is {self.speech_task!r}", hint=f"one of {', '.join(map(repr, SPEECH_TASKS))}"
            )
        seconds = self.prompt_seconds
        if seconds is not None and (type(seconds) not in (int, float) or not 0 < seconds <= 1_000_000):
            raise ConfigurationError(f"prompt_seconds is {seconds!r:.60}", hint="seconds, above 0")
        for name in ("vocoder_name_or_path", "vocoder_revision"):
            if not isinstance(getattr(self, name), str | None):
                raise ConfigurationError(f"{name} is {getattr(self, name)!r:.60}", hint="a text, or None")

    def _validate_verbalizer(self) -> None:
        if self.feedback_temperature <= 0:
            raise ConfigurationError(f"feedback_temperature is {self.feedback_temperature}", hint="above 0")
        check_verbalizer_size(self.verbalizer_hidden_size, self.verbalizer)
        if self.verbalizer != "learnable":
            if self.readout == "hidden":
                raise ConfigurationError(
                    f"readout 'hidden' needs a learnable verbalizer, not {self.verbalizer!r}",
                    hint="a fixed verbalizer reads logits of units: choose readout 'separator' or 'pooled'",
                )
            if self.label_feedback == "mixture":
                raise ConfigurationError(
                    f"label_feedback 'mixture' needs a learnable verbalizer, not {self.verbalizer!r}",
                    hint="a fixed verbalizer feeds its unit back: label_feedback='token'",
                )
        if self.label_feedback == "mixture" and self.verbalizer_hidden_size:
            raise ConfigurationError(
                f"label_feedback 'mixture' with verbalizer_hidden_size {self.verbalizer_hidden_size}",
                hint="a label is fed back as a mixture of units by the rows of a linear verbalizer: "
                "verbalizer_hidden_size=0, or label_feedback='token'",
            )
        if self.label_feedback == "mixture" and self.readout != "separator":
            raise ConfigurationError(
                f"label_feedback 'mixture' does nothing with readout {self.readout!r}",
                hint="labels are fed back only where they are read one after another: readout='separator'",
            )

    def _validate_label_sequences(self) -> None:
        if self.label_sequences is None:
            return
        if len(self.label_sequences) != self.num_labels:
            raise LabelError(
                f"{len(self.label_sequences)} label sequences for {self.num_labels} classes", hint="one a class"
            )
        lengths = {len(sequence) for sequence in self.label_sequences}
        if len(lengths) != 1 or 0 in lengths:
            raise LabelError(f"label sequences have lengths {sorted(lengths)}", hint="all have the same, at least 1")
        if len({tuple(sequence) for sequence in self.label_sequences}) != len(self.label_sequences):
            raise LabelError("two classes have the same label sequence")
