"""`PromptTrainer` that answers the validation rows, as transformers' `Seq2SeqTrainer` with `predict_with_generate`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler, SequentialSampler

from ..data.sequence_rows import NOT_TAUGHT
from .trainer import PromptTrainer

__all__ = ["SequenceTrainer"]


class SequenceTrainer(PromptTrainer):
    """`PromptTrainer` whose predictions are the tokens that the model says, not its logits.

    `Seq2SeqTrainer` changes the model's `generation_config` while it evaluates, which is saved with the adapter; this
    one leaves it alone. Rows are evaluated in their order, so that `compute_metrics` can know their texts.

    Args:
        args: of `PromptTrainer`.
        num_beams (`int`, defaults to 1): of the answers.
        kwargs: of `PromptTrainer`.
    """

    def __init__(self, *args: Any, num_beams: int = 1, **kwargs: Any) -> None:
        self.num_beams = num_beams
        super().__init__(*args, **kwargs)

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler | None:
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Loss and answers of a batch.

        Args:
            model (`nn.Module`): what is trained.
            inputs (`dict`): a batch, with or without labels.
            prediction_loss_only (`bool`): say nothing.
            ignore_keys (`list[str]`, *optional*): of the outputs; there are none.

        Returns:
            loss `()`, tokens that were said `(B, K)`, -100 behind the last one, and the labels `(B, K')`; `None` for
            what there is not.
        """
        given = self._prepare_inputs(inputs)
        labels: Any = given.get("labels")
        loss = None
        with torch.no_grad():
            if labels is not None:
                with self.compute_loss_context_manager():
                    loss = model(**given)["loss"].detach().mean()
            if prediction_loss_only:
                return loss, None, None
            unwrapped: Any = self.accelerator.unwrap_model(model)
            with self.compute_loss_context_manager():
                said = unwrapped.generate(
                    input_ids=given["input_ids"],
                    attention_mask=given["attention_mask"],
                    num_beams=self.num_beams,
                    do_sample=False,
                )[:, 1:]
        return loss, said.masked_fill(said == unwrapped.generation_config.pad_token_id, NOT_TAUGHT), labels
