"""The README.md of an adapter folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ..core.files import write_text
from .configuration_speechprompt import SpeechPromptConfig

__all__ = ["write_card"]

_TEXT = """
# Speech prompt adapter

Trained with speechprompt-hf: {what}, {trained} trained parameters.

Labels: {labels}

```python
import speechprompt_hf
from transformers import AutoModelForAudioClassification

model = AutoModelForAudioClassification.from_pretrained("PATH OR ID OF THIS REPOSITORY")
```
"""


def write_card(folder: Path, config: SpeechPromptConfig, num_trained_parameters: int) -> None:
    """Write `README.md` with metadata for the Hub.

    Args:
        folder (`Path`): the adapter folder.
        config (`SpeechPromptConfig`): the adapter's configuration.
        num_trained_parameters (`int`): numbers that were trained.
    """
    base = config.base_model_name_or_path
    metadata: dict[str, Any] = {
        "library_name": "peft" if config.method == "prompt" else "transformers",
        "pipeline_tag": "audio-classification",
        "tags": ["speechprompt", "speech", config.method],
    }
    # A folder of this machine is no public name.
    if base is not None and not Path(base).is_absolute():
        metadata["base_model"] = base
    prompt = (
        f"{config.prompt_type} prompt of {config.num_virtual_tokens} columns"
        if config.method == "prompt"
        else config.method
    )
    what = f"{prompt}, {config.verbalizer} verbalizer, readout {config.readout}"
    text = _TEXT.format(
        what=what,
        trained=f"{num_trained_parameters:,}",
        labels=", ".join(config.class_names),
    )
    card = ModelCard(f"---\n{ModelCardData(**metadata).to_yaml()}\n---\n{text}")
    write_text(folder / "README.md", str(card))
