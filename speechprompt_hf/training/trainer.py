"""`Trainer` with batches by length, for models that save an adapter instead of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from torch.utils.data import Sampler
from transformers import Trainer
from transformers.trainer_utils import HubStrategy, SaveStrategy
from transformers.utils import logging

from ..core.errors import ConfigurationError
from ..core.files import read_json
from ..hub.client import talking_to_the_hub
from .hub_checkpoint import LAST_CHECKPOINT
from .hub_publishing import RunPublisher, check_can_be_published
from .sampling import LengthGroupedSampler

__all__ = ["PromptTrainer"]

logger = logging.get_logger(__name__)
_CARD_OPTIONS = ("language", "license", "dataset")


class PromptTrainer(Trainer):
    """`transformers.Trainer` with updates of similar lengths, and with whole repositories where it publishes.

    Resuming and the best model are Trainer's own: checkpoints hold the adapter, the trained vectors themselves and
    the optimizer's state of what is trained, never a frozen base.

    With `push_to_hub=True` the arguments are checked before training: the base must be on the Hub. Every push is one
    commit of a whole adapter that opens by its id; docs/trainer-on-the-hub.md says more.

    Args:
        args: of `transformers.Trainer`.
        hub_base (`str`, *optional*): the base on the Hub, `organisation/name`, where the model's base is a folder, the
            embedded one, or has no name. By default what `model.config` names.
        hub_base_revision (`str`, *optional*): branch, tag or commit of the base; its commit is written.
        kwargs: of `transformers.Trainer`.

    Raises:
        HubError: with `push_to_hub=True`: the base is not on the Hub, or the Hub refused.
        FingerprintMismatchError: with `push_to_hub=True`: the base on the Hub has other weights or units.
    """

    def __init__(
        self, *args: Any, hub_base: str | None = None, hub_base_revision: str | None = None, **kwargs: Any
    ) -> None:
        self.hub_base = hub_base
        self.hub_base_revision = hub_base_revision
        self._publisher: RunPublisher | None = None
        super().__init__(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        column = self.args.length_column_name
        if self.args.train_sampling_strategy != "group_by_length" or column not in getattr(rows, "column_names", ()):
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        update = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthGroupedSampler(rows[column], update, seed)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """`Trainer.compute_loss`, but for batches of several adapters with smoothed labels.

        Args:
            model (`nn.Module`): what is trained.
            inputs (`dict`): a batch.
            *args: of `Trainer.compute_loss`.
            **kwargs: of `Trainer.compute_loss`.

        Returns:
            `Tensor` of shape `()`, or `(loss, outputs)`: what Trainer returns.

        Raises:
            ConfigurationError: the batch names adapters, whose numbers of classes differ, and labels are smoothed.
        """
        if self.label_smoother is not None and inputs.get("adapter_names") is not None:
            raise ConfigurationError(
                f"label_smoothing_factor is {self.args.label_smoothing_factor} and a batch has adapter_names",
                hint="rows of several adapters have different numbers of classes: label_smoothing_factor=0.0",
            )
        return super().compute_loss(model, inputs, *args, **kwargs)

    # Publishing

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Check that what is trained can be published, and make the repository; Trainer calls this when it is made.

        Args:
            token (`str`, *optional*): instead of `hub_token` of the arguments.
            private (`bool`, *optional*): instead of `hub_private_repo` of the arguments.

        Raises:
            HubError: the base is not on the Hub, or the Hub refused.
            FingerprintMismatchError: the base on the Hub has other weights or units than the model's.
        """
        if not self.is_world_process_zero():
            return
        token = self.args.hub_token if token is None else token
        private = self.args.hub_private_repo if private is None else private
        api = HfApi(token=token)
        base = check_can_be_published(
            self.accelerator.unwrap_model(self.model),
            self._published_processor(),
            api=api,
            base=self.hub_base,
            base_revision=self.hub_base_revision,
        )
        name = self.args.hub_model_id or Path(str(self.args.output_dir)).absolute().name
        with talking_to_the_hub(name, "push to"):
            repo_id = api.create_repo(name, private=private, exist_ok=True).repo_id
        self.hub_model_id = repo_id  # type: ignore[assignment]
        self._publisher = RunPublisher(repo_id, base, token=token, private=private)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Save the model in `output_dir` and publish it: one commit of the adapter, its processor and its card.

        Args:
            commit_message (`str`, *optional*): first line of the commit.
            blocking (`bool`, defaults to `True`): wait for the upload.
            token (`str`, *optional*): instead of `hub_token` of the arguments.
            revision (`str`, *optional*): branch, instead of `hub_revision` of the arguments.
            private (`bool`, *optional*): for a new repository.
            kwargs: `language`, `license` and `dataset` for the card.

        Returns:
            `CommitInfo`, or a `Future` of it unless `blocking`; `None` in all processes but the first.

        Raises:
            ConfigurationError: the card takes no such keyword.
            HubError: the base is not on the Hub, or the Hub refused; the repository is as it was.
        """
        kwargs.pop("model_name", None)
        if unknown := sorted(set(kwargs) - set(_CARD_OPTIONS)):
            raise ConfigurationError(
                f"the card takes no {', '.join(unknown)}",
                hint=f"it takes {', '.join(_CARD_OPTIONS)}; edit the rest in the repository, where it is kept",
            )
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self._publisher is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if self._publisher is None:
            return None
        publisher, processor = self._publisher, self._published_processor()
        self._finish_current_push()
        options = {**kwargs, **({} if token is None else {"token": token})}

        def publish() -> CommitInfo:
            done = publisher.publish(
                Path(str(self.args.output_dir)),
                processor,
                message=commit_message,
                branch=revision or self.args.hub_revision,
                **options,
            )
            return CommitInfo(
                commit_url=done.url, commit_message=commit_message or "", commit_description="", oid=done.commit
            )

        return publish() if blocking else publisher.in_background(publish)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        strategy = HubStrategy(self.args.hub_strategy)
        if self._publisher is None or strategy == HubStrategy.END:
            return
        if self._publisher.is_busy and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        by_step = self.args.save_strategy == SaveStrategy.STEPS
        where = f"step {self.state.global_step}" if by_step else f"epoch {int(self.state.epoch or 0)}"
        folder = Path(checkpoint_folder)
        names = {HubStrategy.CHECKPOINT: LAST_CHECKPOINT, HubStrategy.ALL_CHECKPOINTS: folder.name}
        self._publisher.start(
            folder,
            self._published_processor(),
            message=f"Training in progress, {where}",
            branch=self.args.hub_revision,
            resume_as=names.get(strategy),
        )

    def _finish_current_push(self) -> None:
        if self._publisher is not None:
            self._publisher.wait()

    def _published_processor(self) -> Any:
        """What makes units, given to the trainer or attached to the model."""
        if hasattr(self.processing_class, "unit_encoder"):
            return self.processing_class
        return getattr(self.accelerator.unwrap_model(self.model), "processor", None)

    # Resuming

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        state = Path(resume_from_checkpoint, "trainer_state.json")
        best = read_json(state).get("best_global_step") if state.is_file() else None
        checkpoint = Path(str(self.args.output_dir), f"checkpoint-{best}")
        if self.args.load_best_model_at_end and best and not checkpoint.is_dir():
            logger.warning(
                f"the best model so far, of step {best}, is not in {self.args.output_dir}: it can be loaded at the "
                "end only if a better one follows"
            )
