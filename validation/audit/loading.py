"""Loads a release as its users have it for Llama 3.1: with what it writes of that model's RoPE.

Imported only in a worker, which imports one release in its life.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from validation.audit.jobs import AuditJob
from validation.models.reference import EAGER, OnLayer, reporting_layers
from validation.models.rope_parameters import LLAMA_31
from validation.models.subject import (
    Subject,
    SubjectRefused,
    attention_options,
    first_line,
    lacking,
    load_explicitly,
    rope_fields,
)

_LLAMA_31 = "meta-llama/Llama-3.1-8B"


@dataclass(frozen=True)
class NamedLlama:
    """What a release with `HookedTransformer` has for Llama 3.1, which it knows by name.

    Attributes:
        cfg: its configuration of the 8B model, None if the release names none.
        changes: of RoPE's fields, those that it has otherwise than Meta's model: the checkpoint is
            run with them, and with its own values elsewhere.
        notes: sentences for the report.
    """

    cfg: Any
    changes: dict[str, Any]
    notes: tuple[str, ...]

    @classmethod
    def of_release(cls) -> Self:
        """Asks the release that is imported."""
        from transformer_lens.loading_from_pretrained import get_pretrained_model_config

        try:
            cfg = get_pretrained_model_config(_LLAMA_31, device="cpu")
        except Exception:  # releases that do not know the name raise different things
            return cls(None, {}, ("it does not know Llama 3.1 by name",))
        meant = rope_fields(LLAMA_31)
        changes = {
            name: getattr(cfg, name)
            for name, value in meant.items()
            if hasattr(cfg, name) and getattr(cfg, name) != value
        }
        said = [f"it has {name} {value} for Llama 3.1" for name, value in changes.items()]
        return cls(cfg, changes, (*said, f"it has n_ctx {cfg.n_ctx} for Llama 3.1"))

    def n_ctx(self, contexts: int) -> int:
        """Its own context length, or `contexts` if that is not enough for so many tokens."""
        return max(contexts, self.cfg.n_ctx) if self.cfg else contexts

    def load(self, job: AuditJob, contexts: int) -> Subject:
        """The checkpoint, for contexts of up to so many tokens.

        Raises:
            SubjectRefused: the release cannot convert or build it.
        """
        n_ctx = self.n_ctx(contexts)
        notes = [*self.notes]
        if self.cfg and n_ctx > self.cfg.n_ctx:
            notes.append(f"given n_ctx {n_ctx}, without which it takes no more than its own")
        changes = self.changes | {"n_ctx": n_ctx}
        model, dropped = load_explicitly(
            job, getattr(torch, job.dtype), attention_options(job), changes
        )
        return Subject(model.eval(), (*notes, *lacking(dropped)))


@dataclass(frozen=True)
class Bridged(Subject):
    """A `TransformerBridge`, which runs the modules of its own `transformers`."""

    def final_hidden(
        self, tokens: Int[Tensor, "1 pos"], on_layer: OnLayer, prefill: int | None = None
    ) -> Float[Tensor, "pos d_model"]:
        """As `Subject.final_hidden`: what its last norm hands to its unembedding."""
        n_tokens = tokens.shape[1]
        if prefill and prefill < n_tokens:
            raise NotImplementedError("a TransformerBridge is run in one forward")
        kept: list[Tensor] = []
        handle = self.model.ln_final.register_forward_hook(lambda *call: kept.append(call[2]))
        # Neither patterns of every layer nor logits of every position: only memory.
        options = {"output_attentions": False, "logits_to_keep": 1, "use_cache": False}
        try:
            with torch.no_grad(), reporting_layers(self.model.blocks, on_layer, n_tokens, n_tokens):
                self.model(tokens, **options)
        finally:
            handle.remove()
        return kept[0][0]


def load_bridge(job: AuditJob) -> Bridged:
    """The checkpoint, from its folder.

    Raises:
        SubjectRefused: the release cannot boot it, or not with this attention.
    """
    options: dict[str, Any] = {}
    if job.attention != EAGER:  # eager is what users get
        options["hf_config_overrides"] = {"attn_implementation": job.attention}
    if not (job.checkpoint / "tokenizer.json").exists():
        options["tokenizer"] = _some_tokenizer(job.scratch / "tokenizer")
    model = boot(job, **options)
    attention = model.original_model.config._attn_implementation
    if attention != job.attention:
        raise SubjectRefused(f"asked for {job.attention} attention, it has {attention}")
    return Bridged(model.eval(), (f"booted by TransformerBridge, attention {attention}",))


def boot(job: AuditJob, **options: Any) -> Any:
    """`TransformerBridge.boot_transformers` of the checkpoint's folder.

    Raises:
        SubjectRefused: it raised.
    """
    from transformer_lens.model_bridge import TransformerBridge

    dtype = getattr(torch, job.dtype)
    try:
        return TransformerBridge.boot_transformers(
            str(job.checkpoint), device=job.device, dtype=dtype, **options
        )
    except Exception as error:  # a foreign tree may raise anything
        raise SubjectRefused(f"boot_transformers raised {first_line(error, job)}") from error


def _some_tokenizer(folder: Path) -> Any:
    """Of one word: a bridge is not booted without any, and is given ids of tokens here.

    Args:
        folder: where it is written: releases read a tokenizer again from where it came from.
    """
    from tokenizers import Tokenizer, models
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<s>": 0}, unk_token="<s>"))
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "<s>")
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)
