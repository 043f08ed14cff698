"""Unit mBART: a multilingual denoising encoder-decoder over speech units."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from ..core.vocabulary import PAD_TOKEN_ID
from .cache_marks import CACHE_FIELD, one_cache
from .configuration_unit_mbart import UnitMBartConfig
from .embeddings import UnitEmbedding
from .prompt_states import PromptStates
from .unit_mbart_generation import generation_config
from .unit_mbart_model import UnitMBartModel, UnitMBartPreTrainedModel
from .unit_mbart_reading import UnitMBartReading
from .unit_mbart_stacks import UnitMBartEncoder

__all__ = ["UnitMBartForConditionalGeneration", "UnitMBartModel", "UnitMBartPreTrainedModel"]


class UnitMBartForConditionalGeneration(UnitMBartReading, UnitMBartPreTrainedModel, GenerationMixin):
    """Encoder-decoder unit language model with a tied output head.

    Generation starts with the token of `config.language`, says `<s>` first, and stops at the token of the language;
    `<pad>` is never said.

    Args:
        config (`UnitMBartConfig`): sizes.
    """

    _tied_weights_keys = {  # noqa: RUF012 - transformers' own convention
        "lm_head.weight": "model.encoder.embed_tokens.weight"
    }
    accepts_loss_kwargs = True

    def __init__(self, config: UnitMBartConfig) -> None:
        super().__init__(config)
        self.model = UnitMBartModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()
        self.generation_config = generation_config(self.config)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load the base, or the adapter that the Auto classes came from."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if isinstance(model, cls) and model.generation_config.eos_token_id != model.config.language_token_id:
            # config.json was given another language than generation_config.json.
            model.generation_config = generation_config(model.config)
        return loaded

    def set_language(self, language: str) -> None:
        """Take another language for what is read and said.

        Raises:
            ConfigurationError: the model does not know it.
        """
        self.config.token_id_of(language)
        self.config.language = language
        self.model.encoder.embed_tokens.separator_token_id = self.config.language_token_id
        self.generation_config = generation_config(self.config)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[Tensor, ...] | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        prompt: PromptStates | None = None,
        num_items_in_batch: Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        cache: Cache | None = None,
    ) -> Seq2SeqLMOutput | tuple[Any, ...]:
        """Next-token logits.

        Args:
            input_ids (`LongTensor` of shape `(B, M)`, *optional*): the encoder's tokens, see `encoder_inputs`; or
                `inputs_embeds`, or `encoder_outputs`.
            attention_mask (`Tensor` of shape `(B, M)`, *optional*): 1 for the encoder's real columns, padding on
                either side.
            decoder_input_ids (`LongTensor` of shape `(B, N)`, *optional*): what was said so far, beginning with the
                language; made of `labels` without it.
            decoder_attention_mask (`Tensor` of shape `(B, past + N)`, *optional*): 1 for the decoder's real columns.
            encoder_outputs (`BaseModelOutput`, *optional*): what the encoder said before.
            past_key_values (`Cache`, *optional*): past keys and values.
            inputs_embeds (`Tensor` of shape `(B, M, D)`, *optional*): scaled embeddings for the encoder.
            decoder_inputs_embeds (`Tensor` of shape `(B, N, D)`, *optional*): scaled embeddings for the decoder.
            labels (`LongTensor` of shape `(B, N)`, *optional*): what the decoder should say at each column, -100 to
                ignore; they are not shifted.
            use_cache (`bool`, *optional*): return keys and values; defaults to the configuration, off in training.
            prompt (`PromptStates`, *optional*): a prompt; pass it again at every step.
            num_items_in_batch (`int`, *optional*): divisor of the summed loss; the mean over targets without it.
            output_hidden_states (`bool`, *optional*): return the input of every layer and the output.
            output_attentions (`bool`, *optional*): refused: the layers give no attention weights.
            return_dict (`bool`, *optional*): `False` returns a tuple.
            cache (`Cache`, *optional*): another name of `past_key_values`, which transformers 5.24 uses.

        Returns:
            `Seq2SeqLMOutput`: `logits` of shape `(B, N, V)`, and `loss` where labels were given.

        Raises:
            ConfigurationError: inputs are missing or there twice.
            UnitError: a sequence is longer than the table of positions.
        """
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self._said_before(labels)
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=one_cache(past_key_values, cache),
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            prompt=prompt,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        logits = self.lm_head(output.last_hidden_state)
        loss = None
        if labels is not None:
            count = labels.ne(-100).sum() if num_items_in_batch is None else num_items_in_batch
            summed = nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100, reduction="sum"
            )
            loss = summed / count
        result = Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            decoder_hidden_states=output.decoder_hidden_states,
            encoder_last_hidden_state=output.encoder_last_hidden_state,
            encoder_hidden_states=output.encoder_hidden_states,
            **{CACHE_FIELD: output.get(CACHE_FIELD)},
        )
        return result.to_tuple() if return_dict is False else result

    def _said_before(self, labels: Tensor) -> Tensor:
        """The language, then what the decoder should have said before each column."""
        start = labels.new_full((len(labels), 1), self.config.language_token_id)
        said = torch.cat([start, labels[:, :-1]], dim=1)
        return said.masked_fill(said == -100, PAD_TOKEN_ID)

    def get_input_embeddings(self) -> UnitEmbedding:
        """The scaled unit embedding, one for encoder, decoder and output head."""
        return self.model.get_input_embeddings()

    def get_encoder(self, *args: Any, **kwargs: Any) -> UnitMBartEncoder:
        """The encoder."""
        return self.model.encoder

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Say units, as transformers' `generate`; arguments are those of the encoder and of `forward`.

        The encoder is run before any cache is there that could tell whether a PEFT adapter is active; whose step is
        called tells it.
        """
        owner = getattr(self.prepare_inputs_for_generation, "__self__", self)
        return super().generate(*args, **{"uses_own_prompt": owner is not self, **kwargs})

    def _prepare_encoder_decoder_kwargs_for_generation(self, *args: Any, **kwargs: Any) -> Any:
        # PEFT 0.21.0 wants the name that transformers gave up before 5.23, though nobody calls it.
        model: Any = self
        return model._prepare_text_encoder_decoder_kwargs_for_generation(*args, **kwargs)

    def prepare_inputs_for_generation(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Inputs of one generation step; the cache is passed on under the only name that PEFT 0.21 looks for."""
        inputs = super().prepare_inputs_for_generation(input_ids, *args, **kwargs)
        for key in ("input_ids", "inputs_embeds", "decoder_position_ids", "position_ids", "uses_own_prompt"):
            inputs.pop(key, None)
        if inputs.get("cache") is not None:
            inputs["past_key_values"] = inputs.pop("cache")
        return inputs
