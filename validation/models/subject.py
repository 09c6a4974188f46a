"""The subject: a TransformerLens source tree running the checkpoint.

Imported only in a worker, which imports one tree in its life.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from validation.execution.accidents import exhausted
from validation.execution.jobs import SubjectJob
from validation.imports import uncollected
from validation.judgement.metrics import Head
from validation.models.reference import EAGER, OnLayer, load_reference, reporting_layers
from validation.models.rope_parameters import Llama3Rope
from validation.models.streamed_subject import streamed_subject
from validation.models.trees import ATTENTION_FIELD


class SubjectRefused(Exception):
    """The tree cannot load or run the checkpoint; the message says what it raised."""


@dataclass(frozen=True)
class Subject:
    """A loaded `HookedTransformer`.

    Attributes:
        model: the model, in inference mode.
        notes: how it was loaded, for the report.
    """

    model: Any
    notes: tuple[str, ...]

    def refuse_another_forward(self, tokens: Int[Tensor, "1 pos"]) -> None:
        """Raises SubjectRefused unless the model's own forward is what is measured here."""
        try:
            with torch.no_grad():
                logits = self.model(tokens)
                measured = self.head(self.final_hidden(tokens, lambda *_: None)[None])
        except Exception as error:  # a foreign tree may raise anything
            if exhausted(error):  # the worker dies of it, and the case is run again
                raise
            raise SubjectRefused(f"its forward() raised {error!r}") from error
        if not torch.allclose(logits, measured, rtol=0, atol=0, equal_nan=True):
            raise SubjectRefused("its forward() is not its unembed() of its ln_final()")

    def final_hidden(
        self, tokens: Int[Tensor, "1 pos"], on_layer: OnLayer, prefill: int | None = None
    ) -> Float[Tensor, "pos d_model"]:
        """Residual stream after the last norm.

        Args:
            tokens: token ids.
            on_layer: told how it goes.
            prefill: tokens a forward, through TransformerLens' own KV cache; all in one if None.
        """
        n_tokens = tokens.shape[1]
        prefill = prefill or n_tokens
        is_whole = prefill >= n_tokens
        cache = None if is_whole else self.new_cache()
        parts = []
        with (
            torch.no_grad(),
            reporting_layers(self.model.blocks, on_layer, n_tokens, prefill),
        ):
            for start in range(0, n_tokens, prefill):
                rows = tokens[:, start : start + prefill]
                # With a cache and without a tokenizer the mask must be given.
                mask = {} if is_whole else {"attention_mask": torch.ones_like(rows)}
                residual = self.model(
                    rows, stop_at_layer=self.model.cfg.n_layers, past_kv_cache=cache, **mask
                )
                parts.append(self.model.ln_final(residual)[0])
        return parts[0] if is_whole else torch.cat(parts)

    def new_cache(self) -> Any:
        """An empty KV cache of TransformerLens' own."""
        import transformer_lens

        # The name before release 3 and since.
        for name in ("TransformerLensKeyValueCache", "HookedTransformerKeyValueCache"):
            if cache := getattr(transformer_lens, name, None):
                return cache.init_cache(self.model.cfg, self.model.cfg.device, 1)
        raise SubjectRefused("transformer_lens has no KV cache that is known here")

    @property
    def head(self) -> Head:
        """The model's own unembedding."""
        unembed: Head = self.model.unembed
        return unembed


def load_subject(job: SubjectJob) -> Subject:
    """Loads the checkpoint as the tree does; if it cannot, gives it the configuration.

    Where layers are streamed no tree can load them: the fork reads the configuration, others are
    given it, and each converts one layer after the other.

    Raises:
        SubjectRefused: neither is possible, or the tree is bound to load it by itself, or has no
            such attention.
        RuntimeError: there is no `transformer_lens` in the tree.
    """
    import_from(job.tree)
    dtype = getattr(torch, job.dtype)
    options = attention_options(job)
    if job.streams_layers:
        model, said = _stream_layers(job, dtype, options)
        return Subject(model.eval(), said)
    model, trouble = _load_by_itself(job, dtype, options)
    if trouble is None:
        return Subject(model.eval(), ("loaded with from_pretrained_no_processing",))
    if job.loads_itself:
        raise SubjectRefused(f"from_pretrained_no_processing {trouble}")
    del model
    model, dropped = load_explicitly(job, dtype, options)
    notes = [f"given the configuration explicitly: from_pretrained_no_processing {trouble}"]
    return Subject(model.eval(), (*notes, *lacking(dropped)))


def import_from(tree: Path) -> None:
    """Imports `transformer_lens` from `tree`, and nothing else that lies beside it."""
    spec = PathFinder.find_spec("transformer_lens", [str(tree)])
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{tree} has no transformer_lens package")
    module = module_from_spec(spec)
    sys.modules["transformer_lens"] = module
    with uncollected():
        spec.loader.exec_module(module)


def attention_options(job: SubjectJob) -> dict[str, str]:
    """What the configuration is told about attention, by trees that can be told."""
    from transformer_lens import HookedTransformerConfig

    if ATTENTION_FIELD in {field.name for field in fields(HookedTransformerConfig)}:
        return {ATTENTION_FIELD: job.attention}
    if job.attention != EAGER:
        raise SubjectRefused(f"it has no {job.attention} attention")
    return {}


def _load_by_itself(
    job: SubjectJob, dtype: torch.dtype, options: dict[str, str]
) -> tuple[Any, str | None]:
    """The model, and what is wrong with that way of loading it."""
    from transformer_lens import HookedTransformer

    given = {} if job.weights_seed is None else {"hf_model": _as_transformers(job)}
    try:
        model = HookedTransformer.from_pretrained_no_processing(
            str(job.checkpoint),
            dtype=dtype,
            device=job.device,
            n_devices=job.n_devices,
            **given,
            **options,
        )
    except Exception as error:  # a foreign tree may raise anything
        if exhausted(error):  # the worker dies of it, and the case is run again
            raise
        return None, f"raised {first_line(error, job)}"
    if job.n_devices > 1:
        place_modules(model)
    wanted = llama_configuration(job.checkpoint, job.n_ctx)
    different = [
        f"{name} {getattr(model.cfg, name, None)}, not {value}"
        for name, value in wanted.items()
        if name.startswith(("NTK", "use_NTK", "rotary_", "d_head"))
        and getattr(model.cfg, name, None) != value
    ]
    if job.is_stock and different:
        return model, f"gives {'; '.join(different)}"
    return model, None


def llama_configuration(checkpoint: Path, n_ctx: int | None) -> dict[str, Any]:
    """The checkpoint's configuration in TransformerLens' terms, with its own context if None."""
    from transformers import AutoConfig

    from validation.models.checkpoints import read_rope

    config = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
    rope = read_rope(str(checkpoint), config)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    is_grouped = config.num_key_value_heads != config.num_attention_heads
    return {
        "original_architecture": "LlamaForCausalLM",
        "model_name": checkpoint.name,
        "d_model": config.hidden_size,
        "d_head": head_dim,
        "n_heads": config.num_attention_heads,
        "n_key_value_heads": config.num_key_value_heads if is_grouped else None,
        "d_mlp": config.intermediate_size,
        "n_layers": config.num_hidden_layers,
        "n_ctx": n_ctx or config.max_position_embeddings,
        "d_vocab": config.vocab_size,
        "eps": config.rms_norm_eps,
        "act_fn": config.hidden_act,
        "normalization_type": "RMS",
        "final_rms": True,
        "gated_mlp": True,
        "positional_embedding_type": "rotary",
        "rotary_adjacent_pairs": False,
        "rotary_dim": head_dim,
        **rope_fields(rope),
        "init_weights": False,
    }


def rope_fields(rope: Llama3Rope) -> dict[str, Any]:
    """What TransformerLens' configuration says of a position encoding."""
    return {
        "rotary_base": rope.theta,
        "use_NTK_by_parts_rope": True,
        "NTK_by_parts_low_freq_factor": rope.low_freq_factor,
        "NTK_by_parts_high_freq_factor": rope.high_freq_factor,
        "NTK_by_parts_factor": rope.factor,
        "NTK_original_ctx_len": rope.original_positions,
    }


def load_explicitly(
    job: SubjectJob,
    dtype: torch.dtype,
    options: dict[str, str],
    changes: Mapping[str, Any] | None = None,
) -> tuple[Any, list[str]]:
    """Has the tree convert the weights for a configuration that it is given.

    Args:
        job: which checkpoint.
        dtype: of the weights.
        options: fields that are not the checkpoint's.
        changes: fields of the checkpoint's configuration that are given otherwise.

    Returns:
        The model, and the fields of the configuration that the tree does not know.

    Raises:
        SubjectRefused: the tree cannot.
    """
    from transformer_lens import HookedTransformer

    cfg, dropped = _given_configuration(job, dtype, options, changes)
    reference = _as_transformers(job)
    try:
        model = HookedTransformer(cfg)
        give_weights(model, reference)
    except Exception as error:  # a foreign tree may raise anything
        if exhausted(error):  # the worker dies of it, and the case is run again
            raise
        message = f"given the configuration explicitly, it raised {first_line(error, job)}"
        raise SubjectRefused(message) from error
    if job.n_devices > 1:
        place_modules(model)
        return model, dropped
    return model.to(job.device), dropped


def give_weights(model: Any, reference: Any) -> None:
    """Has the tree convert a Llama's weights, and processes none.

    Args:
        model: a `HookedTransformer`.
        reference: the `LlamaForCausalLM` that has them.
    """
    from transformer_lens.pretrained.weight_conversions import convert_llama_weights

    model.load_and_process_state_dict(
        convert_llama_weights(reference, model.cfg),
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )


def place_modules(model: Any) -> None:
    """Puts every module on the GPU to which the model's own forward() sends what enters it.

    3.9.0 loads each to the GPU with the most free memory at that moment, and then sends the
    residual stream where `get_device_for_block_index` says, which is another place.

    Args:
        model: a `HookedTransformer` with `cfg.n_devices` above 1.
    """
    device_of = sys.modules[type(model).__module__].get_device_for_block_index
    model.embed.to(device_of(0, model.cfg))
    for index, block in enumerate(model.blocks):
        block.to(device_of(index, model.cfg))
    for last in (model.ln_final, model.unembed):
        last.to(device_of(model.cfg.n_layers - 1, model.cfg))


def _given_configuration(
    job: SubjectJob,
    dtype: torch.dtype,
    options: dict[str, str],
    changes: Mapping[str, Any] | None = None,
) -> tuple[Any, list[str]]:
    """The checkpoint's as the tree's own class, and the fields that it does not know."""
    from transformer_lens import HookedTransformerConfig

    known = {field.name for field in fields(HookedTransformerConfig)}
    wanted = llama_configuration(job.checkpoint, job.n_ctx) | dict(changes or {})
    cfg = HookedTransformerConfig(
        **{name: value for name, value in wanted.items() if name in known},
        **options,
        dtype=dtype,
        device=job.device,
        n_devices=job.n_devices,
    )
    return cfg, [name for name in wanted if name not in known]


def _stream_layers(
    job: SubjectJob, dtype: torch.dtype, options: dict[str, str]
) -> tuple[Any, tuple[str, ...]]:
    """The model, and how it came by its configuration."""
    try:
        cfg, notes = _own_configuration(job, dtype, options)
        return streamed_subject(job, dtype, cfg), ("layers are streamed", *notes)
    except Exception as error:  # a foreign tree may raise anything
        if exhausted(error):  # the worker dies of it, and the case is run again
            raise
        message = f"asked to stream its layers, it raised {first_line(error, job)}"
        raise SubjectRefused(message) from error


def _own_configuration(
    job: SubjectJob, dtype: torch.dtype, options: dict[str, str]
) -> tuple[Any, tuple[str, ...]]:
    """As the fork reads it from the checkpoint, or as another tree is given it; and notes."""
    if job.loads_itself:
        from transformer_lens.loading_from_pretrained import get_pretrained_model_config

        cfg = get_pretrained_model_config(
            str(job.checkpoint), dtype=dtype, device=job.device, **options
        )
        return cfg, ("the configuration is its own",)
    cfg, dropped = _given_configuration(job, dtype, options)
    notes = ["given the configuration explicitly", *lacking(dropped)]
    return cfg, tuple(notes)


def lacking(dropped: list[str]) -> list[str]:
    """A note on fields that a tree's configuration does not know, if there are any."""
    return [f"this tree's configuration has no {', '.join(dropped)}"] if dropped else []


def _as_transformers(job: SubjectJob) -> Any:
    """The weights to convert, in the model that `transformers` makes of them."""
    # With seeded weights on the device, where they are made fast; else where files are read to.
    device = "cpu" if job.weights_seed is None or job.n_devices > 1 else job.device
    return load_reference(job.checkpoint, getattr(torch, job.dtype), device, job.weights_seed)


def first_line(error: Exception, job: SubjectJob) -> str:
    """What a foreign tree raised, for a result."""
    line = " ".join([f"{type(error).__name__}:", *str(error).strip().splitlines()[:1]])
    # Results are published: where the checkpoint lay on this machine says nothing. Shortened:
    # TransformerLens lists every model it knows.
    return shorten(line.replace(str(job.checkpoint), "CHECKPOINT"), 120, placeholder=" ...")
