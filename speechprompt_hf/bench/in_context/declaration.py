"""What suites of kind `in-context` are made of: tasks, methods, and how warm-up trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ...core.errors import ConfigurationError
from ..declaration import check_at_least, check_name, read_record

__all__ = ["InContextMethod", "InContextTask", "WarmUpSettings"]


@dataclass(frozen=True)
class WarmUpSettings:
    """How warm-up trains.

    Attributes:
        prompt (`str`, defaults to `"deep"`): `"deep"` or `"input"`.
        num_virtual_tokens (`int`, defaults to 10): columns of the prompt.
        prompt_init (`str`, defaults to `"vocabulary"`): as in `SpeechPromptConfig`, without those that look at rows.
        prompt_dropout (`float`, defaults to 0.0): dropout on its vectors.
        updates (`int`, defaults to 300): of the optimizer; 0 for what is not warmed up.
        batch_size (`int`, defaults to 4): episodes an update.
        learning_rate (`float`, defaults to 1e-2): AdamW's, at its highest; it rises over a tenth of the updates and
            falls linearly to zero.
        ask (`str`, defaults to `"repeats"`): where a label is asked in warm-up: `"query"`: after the query alone,
            every class told k times; `"repeats"`: after each utterance whose class was told before, classes drawn.

    Raises:
        ConfigurationError: a number is out of range.
    """

    prompt: Literal["deep", "input"] = "deep"
    num_virtual_tokens: int = 10
    prompt_init: Literal["normal", "scaled", "vocabulary"] = "vocabulary"
    prompt_dropout: float = 0.0
    updates: int = 300
    batch_size: int = 4
    learning_rate: float = 1e-2
    ask: Literal["query", "repeats"] = "repeats"

    def __post_init__(self) -> None:
        check_at_least(self, {"num_virtual_tokens": 1, "updates": 0, "batch_size": 1})
        if not self.learning_rate > 0:
            raise ConfigurationError(f"learning_rate is {self.learning_rate}", hint="above 0")
        if not 0 <= self.prompt_dropout < 1:
            raise ConfigurationError(f"prompt_dropout is {self.prompt_dropout}", hint="a share in [0, 1)")


@dataclass(frozen=True)
class InContextMethod:
    """What answers.

    Attributes:
        name (`str`): how tables and `--only` call it.
        kind (`str`): `"nearest"`: the label of the nearest example, by TF-IDF of units; `"prompt"`: a prompt on the
            frozen base; `"finetune"`: the whole base is trained.
        settings (`Mapping[str, Any]`): fields of `WarmUpSettings`, over those of the suite.

    Raises:
        ConfigurationError: a name with reserved characters, or settings that do not exist.
    """

    name: str
    kind: Literal["nearest", "prompt", "finetune"]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name("a method", self.name)
        if self.kind == "nearest" and self.settings:
            raise ConfigurationError(f"the method {self.name!r} has settings", hint="nearest takes none")
        read_record(WarmUpSettings, self.settings, f"settings of {self.name!r}")

    @property
    def reads_language_model(self) -> bool:
        """Whether a base answers."""
        return self.kind != "nearest"


@dataclass(frozen=True)
class InContextTask:
    """Which data sets warm up and which are asked; one that does both is divided.

    Attributes:
        name (`str`): how tables and `--only` call it.
        warm_up (`tuple[str, ...]`): names of data sets of the suite.
        test (`tuple[str, ...]`): likewise.
        title (`str`, *optional*): one sentence.
        test_classes (`int`, defaults to 4): classes held out of a data set that does both.
        test_speakers (`float`, defaults to 0.4): share of its speakers that is held out.

    Raises:
        ConfigurationError: a name with reserved characters or a point at its beginning, or no data set.
    """

    name: str
    warm_up: tuple[str, ...]
    test: tuple[str, ...]
    title: str = ""
    test_classes: int = 4
    test_speakers: float = 0.4

    def __post_init__(self) -> None:
        check_name("a task", self.name)
        for what, names in (("warm_up", self.warm_up), ("test", self.test)):
            if not names or len(set(names)) < len(names):
                raise ConfigurationError(f"{what} of {self.name!r} is {list(names)}", hint="names, each once")
        if not 0 < self.test_speakers < 1:
            raise ConfigurationError(f"test_speakers is {self.test_speakers}", hint="a share in (0, 1)")

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of all its data sets, those that warm up first."""
        return tuple(dict.fromkeys((*self.warm_up, *self.test)))
