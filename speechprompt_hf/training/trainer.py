"""`Trainer` for models that save an adapter instead of themselves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch.utils.data import Sampler
from transformers import Trainer

from ..core.errors import AdapterError
from ..modeling.adapter_files import PROMPT_STATE, VERBALIZER, load_prompt, save_tensors
from ..modeling.modeling_gslm import GSLMForCausalLM
from ..modeling.modeling_speechprompt import LANGUAGE_MODEL_FOLDER
from .sampling import LengthGroupedSampler

__all__ = ["PromptTrainer"]


class PromptTrainer(Trainer):
    """`transformers.Trainer` with what a frozen base needs: resuming, the best model, publishing.

    Checkpoints hold the adapter, the verbalizer, the prompt's own vectors and the optimizer's state of what is
    trained, never the base; resuming from one goes on exactly. Everything else is Trainer's.
    """

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # The whole state, base included, is neither needed nor gathered.
        super()._save(output_dir, state_dict={})
        model = self.accelerator.unwrap_model(self.model)
        if self.args.should_save and model.prompt is not None:
            folder = Path(output_dir or str(self.args.output_dir))
            save_tensors(folder / PROMPT_STATE, model.prompt.training_state())

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._load_trained(resume_from_checkpoint, self.model if model is None else model)

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint is not None:
            self._load_trained(self.state.best_model_checkpoint, self.model)

    def _load_trained(self, folder: str, model: Any) -> None:
        model = self.accelerator.unwrap_model(model)
        verbalizer = Path(folder) / VERBALIZER
        if not verbalizer.is_file():
            raise AdapterError(f"{folder} is no checkpoint of an adapter: it has no {VERBALIZER}")
        if model.prompt is not None:
            load_prompt(folder, model.prompt)
        if model.config.method == "finetune":
            saved = GSLMForCausalLM.from_pretrained(folder, subfolder=LANGUAGE_MODEL_FOLDER, dtype=model.lm.dtype)
            model.lm.load_state_dict(saved.state_dict())
        model.verbalizer.load_tensors(load_file(verbalizer, device=str(model.device)))

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        column = self.args.length_column_name
        if self.args.train_sampling_strategy != "group_by_length" or column not in getattr(rows, "column_names", ()):
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        update = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthGroupedSampler(rows[column], update, seed)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        # Trainer copies a fixed list of names to what it publishes; the verbalizer is not among them.
        if self.is_world_process_zero():
            for name in (VERBALIZER, "README.md"):
                if os.path.isfile(os.path.join(checkpoint_folder, name)):
                    shutil.copy(os.path.join(checkpoint_folder, name), os.path.join(str(self.args.output_dir), name))
        super()._push_from_checkpoint(checkpoint_folder)
