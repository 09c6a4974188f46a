"""Every architecture that `HookedTransformer` supports, each with a tiny configuration of HF's.

Sizes are chosen so that rounding shows: the width of a head is no power of 4, heads share keys
where the architecture allows it, and no MLP is as wide as its residual stream: there
TransformerLens 3.9.0 folds a norm into the wrong axis.
"""

from dataclasses import dataclass, field
from typing import Any

from transformer_lens_fork.errors import InputError

VOCAB = 256
POSITIONS = 512
_WIDTH, _HEADS, _D_HEAD, _LAYERS, _MLP = 96, 4, 24, 2, 160

_SIZES: dict[str, Any] = {
    "hidden_size": _WIDTH,
    "intermediate_size": _MLP,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _HEADS,
    "vocab_size": VOCAB,
    "max_position_embeddings": POSITIONS,
    # The defaults are tokens of a real vocabulary.
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_GPT2: dict[str, Any] = {
    "n_embd": _WIDTH,
    "n_head": _HEADS,
    "n_layer": _LAYERS,
    "n_positions": POSITIONS,
    "vocab_size": VOCAB,
    "bos_token_id": None,
    "eos_token_id": None,
}
_GROUPED = _SIZES | {"num_key_value_heads": 2}
_WIDE_HEADS = _GROUPED | {"head_dim": _D_HEAD}
_HYBRID = {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}
_YARN = {
    "rope_type": "yarn",
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 128,
}


def _plain(theta: float, **also: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **also}}


def _llama3(factor: float, theta: float = 500000.0) -> dict[str, Any]:
    return {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": theta,
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
    }


@dataclass(frozen=True)
class Architecture:
    """One architecture, in a size that costs nothing.

    Attributes:
        name: what it is called in reports.
        official: a name by which TransformerLens loads it.
        reference: class of `transformers` that computes it; None where only TransformerLens does.
        fields: of that class' configuration, or of TransformerLens' own.
        is_by_name: the release takes its sizes from the name, not from a configuration.
        given: attributes of the configuration that its class does not take.
        stands_for: the class whose weights TransformerLens converts, where `transformers` has it
            only as remote code: `reference` then is the same function under other names.
    """

    name: str
    official: str
    reference: str | None
    fields: dict[str, Any] = field(hash=False)
    is_by_name: bool = False
    given: dict[str, Any] = field(default_factory=dict, hash=False)
    stands_for: str | None = None


_ABSOLUTE = (
    Architecture("gpt2", "gpt2", "GPT2LMHeadModel", _GPT2 | {"n_ctx": POSITIONS}),
    Architecture(
        "gpt-neo",
        "EleutherAI/gpt-neo-125M",
        "GPTNeoForCausalLM",
        {
            "hidden_size": _WIDTH,
            "num_heads": _HEADS,
            "num_layers": _LAYERS,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": POSITIONS,
            "window_size": 64,
            "vocab_size": VOCAB,
            "bos_token_id": None,
            "eos_token_id": None,
        },
    ),
    Architecture(
        "opt",
        "facebook/opt-125m",
        "OPTForCausalLM",
        _SIZES | {"ffn_dim": _MLP, "word_embed_proj_dim": _WIDTH, "pad_token_id": 1},
    ),
    Architecture(
        "bloom",
        "bigscience/bloom-560m",
        "BloomForCausalLM",
        {
            "hidden_size": _WIDTH,
            "n_head": _HEADS,
            "n_layer": _LAYERS,
            "vocab_size": VOCAB,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
        },
    ),
    Architecture(
        "santacoder",
        "bigcode/santacoder",
        "GPTBigCodeForCausalLM",
        _GPT2 | {"multi_query": True},
        stands_for="GPT2LMHeadCustomModel",
    ),
)

_LAYER_NORM = (
    Architecture("gpt-j", "EleutherAI/gpt-j-6B", "GPTJForCausalLM", _GPT2 | {"rotary_dim": 16}),
    Architecture(
        "gpt-neox",
        "EleutherAI/pythia-70m",
        "GPTNeoXForCausalLM",
        _SIZES | _plain(10000.0, partial_rotary_factor=0.5),
    ),
    Architecture(
        "gpt-neox-sequential",
        "EleutherAI/gpt-neox-20b",
        "GPTNeoXForCausalLM",
        _SIZES | _plain(10000.0, partial_rotary_factor=0.5) | {"use_parallel_residual": False},
    ),
    Architecture(
        "stablelm",
        "stabilityai/stablelm-base-alpha-3b",
        "GPTNeoXForCausalLM",
        _SIZES | _plain(10000.0, partial_rotary_factor=0.25),
    ),
    Architecture(
        "phi",
        "microsoft/phi-2",
        "PhiForCausalLM",
        _SIZES | _plain(10000.0, partial_rotary_factor=0.5) | {"num_key_value_heads": _HEADS},
        # The release reads it; `transformers` 5 keeps it elsewhere, so that no Phi loads as it is.
        given={"partial_rotary_factor": 0.5},
    ),
    Architecture(
        "olmo",
        "allenai/OLMo-1B-hf",
        "OlmoForCausalLM",
        _SIZES | _plain(10000.0) | {"num_key_value_heads": _HEADS},
        is_by_name=True,
    ),
)

_LLAMAS = (
    Architecture(
        "llama-1",
        "llama-7b-hf",
        "LlamaForCausalLM",
        _SIZES | _plain(10000.0) | {"rms_norm_eps": 1e-6},
        is_by_name=True,
    ),
    Architecture(
        "llama-2",
        "meta-llama/Llama-2-7b-hf",
        "LlamaForCausalLM",
        _SIZES | _plain(10000.0) | {"rms_norm_eps": 1e-5},
        is_by_name=True,
    ),
    Architecture(
        "code-llama",
        "codellama/CodeLlama-7b-hf",
        "LlamaForCausalLM",
        _SIZES | _plain(1000000.0) | {"rms_norm_eps": 1e-5},
        is_by_name=True,
    ),
    Architecture(
        "llama-3",
        "meta-llama/Meta-Llama-3-8B",
        "LlamaForCausalLM",
        _GROUPED | _plain(500000.0) | {"rms_norm_eps": 1e-5},
        is_by_name=True,
    ),
    Architecture(
        "llama-3.1",
        "meta-llama/Llama-3.1-8B",
        "LlamaForCausalLM",
        _GROUPED | _llama3(8.0) | {"rms_norm_eps": 1e-5},
        is_by_name=True,
    ),
    Architecture(
        "llama-3.2",
        "meta-llama/Llama-3.2-1B",
        "LlamaForCausalLM",
        _GROUPED | _llama3(32.0) | {"rms_norm_eps": 1e-5, "tie_word_embeddings": True},
        is_by_name=True,
    ),
    Architecture(
        "llama-3.3",
        "meta-llama/Llama-3.3-70B-Instruct",
        "LlamaForCausalLM",
        _GROUPED | _llama3(8.0) | {"rms_norm_eps": 1e-5},
        is_by_name=True,
    ),
    Architecture("yi", "01-ai/Yi-6B", "LlamaForCausalLM", _GROUPED | _plain(5000000.0)),
)

_LIKE_LLAMA = (
    Architecture(
        "mistral",
        "mistralai/Mistral-7B-v0.1",
        "MistralForCausalLM",
        _WIDE_HEADS | _plain(10000.0) | {"sliding_window": 128},
    ),
    Architecture(
        "mixtral",
        "mistralai/Mixtral-8x7B-v0.1",
        "MixtralForCausalLM",
        _GROUPED | _plain(1000000.0) | {"num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    Architecture(
        "qwen",
        "Qwen/Qwen-1_8B",
        "Qwen2ForCausalLM",
        _SIZES | _plain(10000.0) | {"num_key_value_heads": _HEADS, "rms_norm_eps": 1e-6},
        stands_for="QWenLMHeadModel",
    ),
    Architecture(
        "qwen1.5",
        "Qwen/Qwen1.5-0.5B",
        "Qwen2ForCausalLM",
        _SIZES | _plain(1000000.0) | {"num_key_value_heads": _HEADS},
    ),
    Architecture("qwen2", "Qwen/Qwen2-0.5B", "Qwen2ForCausalLM", _GROUPED | _plain(1000000.0)),
    Architecture(
        "qwen2.5",
        "Qwen/Qwen2.5-0.5B",
        "Qwen2ForCausalLM",
        _GROUPED | _plain(1000000.0) | {"tie_word_embeddings": True},
    ),
    Architecture("qwen3", "Qwen/Qwen3-0.6B", "Qwen3ForCausalLM", _WIDE_HEADS | _plain(1000000.0)),
    Architecture(
        "phi-3",
        "microsoft/Phi-3-mini-4k-instruct",
        "Phi3ForCausalLM",
        _GROUPED | _plain(10000.0) | {"sliding_window": 128},
    ),
    Architecture("phi-4", "microsoft/phi-4", "Phi3ForCausalLM", _GROUPED | _plain(250000.0)),
    Architecture(
        "apertus",
        "swiss-ai/Apertus-8B-2509",
        "ApertusForCausalLM",
        _GROUPED | _llama3(8.0, 12000000.0),
    ),
    Architecture(
        "olmoe",
        "allenai/OLMoE-1B-7B-0924",
        "OlmoeForCausalLM",
        _SIZES
        | _plain(10000.0)
        | {"num_key_value_heads": _HEADS, "num_experts": 4, "num_experts_per_tok": 2},
    ),
)

_OTHER_NORMS = (
    Architecture(
        "gemma",
        "google/gemma-2b",
        "GemmaForCausalLM",
        _WIDE_HEADS | _plain(10000.0) | {"num_key_value_heads": 1},
        is_by_name=True,
    ),
    Architecture(
        "gemma-gelu",
        "google/gemma-2b",
        "GemmaForCausalLM",
        _WIDE_HEADS | _plain(10000.0) | {"num_key_value_heads": 1},
        is_by_name=True,
        # Upstream's for this name. HF's class makes it the one with tanh, which is most of the
        # error of `gemma`, before as after.
        given={"hidden_act": "gelu"},
    ),
    Architecture(
        "gemma-2",
        "google/gemma-2-2b",
        "Gemma2ForCausalLM",
        _WIDE_HEADS | _plain(10000.0) | _HYBRID | {"query_pre_attn_scalar": _D_HEAD},
        is_by_name=True,
    ),
    Architecture(
        "gemma-3",
        "google/gemma-3-1b-pt",
        "Gemma3ForCausalLM",
        _WIDE_HEADS
        | _HYBRID
        | {
            "query_pre_attn_scalar": _D_HEAD,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
            },
        },
        is_by_name=True,
    ),
    Architecture(
        "gemma-3-linear",
        "google/gemma-3-4b-pt",
        "Gemma3ForConditionalGeneration",
        {
            "text_config": _WIDE_HEADS
            | _HYBRID
            | {
                "query_pre_attn_scalar": _D_HEAD,
                "rope_parameters": {
                    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                    "full_attention": {
                        "rope_type": "linear",
                        "rope_theta": 1000000.0,
                        "factor": 8.0,
                    },
                },
            },
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
            },
            "mm_tokens_per_image": 4,
            # Outside the vocabulary: there are no images here.
            "image_token_index": VOCAB + 2,
            "boi_token_index": VOCAB,
            "eoi_token_index": VOCAB + 1,
        },
        is_by_name=True,
    ),
    Architecture(
        "olmo-2",
        "allenai/OLMo-2-0425-1B",
        "Olmo2ForCausalLM",
        _SIZES | _plain(500000.0) | {"num_key_value_heads": _HEADS, "rms_norm_eps": 1e-6},
        is_by_name=True,
    ),
    Architecture(
        "olmo-3",
        "allenai/Olmo-3-1025-7B",
        "Olmo3ForCausalLM",
        _GROUPED
        | _HYBRID
        | {
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 500000.0},
                "full_attention": _YARN
                | {"rope_theta": 500000.0, "factor": 8.0, "attention_factor": 1.2079441541679836},
            }
        },
    ),
    Architecture(
        "gpt-oss",
        "openai/gpt-oss-20b",
        "GptOssForCausalLM",
        _WIDE_HEADS
        | _HYBRID
        | {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "rope_parameters": _YARN | {"rope_theta": 150000.0, "factor": 32.0, "truncate": False},
        },
    ),
)

_OWN = {
    "n_layers": _LAYERS,
    "d_model": _WIDTH,
    "n_heads": _HEADS,
    "d_head": _D_HEAD,
    "d_mlp": _MLP,
    "n_ctx": POSITIONS,
    "d_vocab": VOCAB,
    "device": "cpu",
}

# NeelNanda's models, whose configurations are on the hub, and toys that people train themselves.
_WITHOUT_REFERENCE = (
    Architecture("solu", "", None, _OWN | {"act_fn": "solu_ln", "normalization_type": "LNPre"}),
    Architecture(
        "shortformer",
        "",
        None,
        _OWN
        | {
            "attn_only": True,
            "normalization_type": "LNPre",
            "positional_embedding_type": "shortformer",
        },
    ),
    Architecture("toy", "", None, _OWN | {"act_fn": "relu", "normalization_type": None}),
)

ARCHITECTURES = (
    *_ABSOLUTE,
    *_LAYER_NORM,
    *_LLAMAS,
    *_LIKE_LLAMA,
    *_OTHER_NORMS,
    *_WITHOUT_REFERENCE,
)


def choose_architectures(names: tuple[str, ...]) -> tuple[Architecture, ...]:
    """Those of these names, in the catalogue's order; all if there are none.

    Raises:
        InputError: a name is none of an architecture.
    """
    known = {architecture.name: architecture for architecture in ARCHITECTURES}
    for name in names:
        if name not in known:
            raise InputError(f"--only: {name!r} is no architecture; {', '.join(known)} are.")
    return tuple(one for one in ARCHITECTURES if not names or one.name in names)
