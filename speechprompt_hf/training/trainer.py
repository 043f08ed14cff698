"""`Trainer` with batches by length, for models that save an adapter instead of themselves."""

from __future__ import annotations

import os
import shutil
from typing import Any

from torch.utils.data import Sampler
from transformers import Trainer

from ..modeling.adapter_files import VERBALIZER
from .sampling import LengthGroupedSampler

__all__ = ["PromptTrainer"]


class PromptTrainer(Trainer):
    """`transformers.Trainer` with updates of similar lengths, and with all files where it publishes in training.

    Resuming and the best model are Trainer's own: checkpoints hold the adapter, the trained vectors themselves and
    the optimizer's state of what is trained, never a frozen base.
    """

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
