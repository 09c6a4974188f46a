"""Weights under the names of classes that exist as remote code only, which no machine runs here.

`transformers` has classes that compute the same functions: SantaCoder is a GPT-BigCode, and Qwen 1
at its training length is a Qwen 2 without shared keys.
"""

from types import SimpleNamespace as Named
from typing import Any

import torch
from torch import Tensor

from validation.architectures.catalogue import POSITIONS


def stand_in(kind: str, model: Any) -> Any:
    """The weights of `model` as TransformerLens' converter for class `kind` looks for them."""
    return {"GPT2LMHeadCustomModel": _as_santacoder, "QWenLMHeadModel": _as_qwen}[kind](model)


def _linear(weight: Tensor, bias: Tensor | None = None) -> Named:
    return Named(weight=weight, bias=bias)


def _as_santacoder(model: Any) -> Any:
    """Its linear layers are GPT-2's, `[in, out]`; queries and the shared key are apart."""
    config, width = model.config, model.config.n_embd

    def transposed(linear: Any) -> Named:
        return _linear(linear.weight.T, linear.bias)

    def block(layer: Any) -> Named:
        weight, bias = layer.attn.c_attn.weight, layer.attn.c_attn.bias
        return Named(
            ln_1=layer.ln_1,
            ln_2=layer.ln_2,
            attn=Named(
                q_attn=_linear(weight[:width].T, bias[:width]),
                kv_attn=_linear(weight[width:].T, bias[width:]),
                c_proj=transposed(layer.attn.c_proj),
            ),
            mlp=Named(c_fc=transposed(layer.mlp.c_fc), c_proj=transposed(layer.mlp.c_proj)),
        )

    inner = model.transformer
    fields = config.to_dict() | {"scale_attn_by_inverse_layer_idx": False}
    return Named(
        config=_configuration(fields, "GPT2LMHeadCustomModel"),
        transformer=Named(
            wte=inner.wte, wpe=inner.wpe, ln_f=inner.ln_f, h=[block(layer) for layer in inner.h]
        ),
        lm_head=model.lm_head,
    )


def _as_qwen(model: Any) -> Any:
    """Queries, keys and values are fused, and so are the names of the MLP's two halves."""

    def block(layer: Any) -> Named:
        attention, mlp = layer.self_attn, layer.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        return Named(
            ln_1=layer.input_layernorm,
            ln_2=layer.post_attention_layernorm,
            attn=Named(
                c_attn=_linear(
                    torch.cat([one.weight for one in projections]),
                    torch.cat([one.bias for one in projections]),
                ),
                c_proj=attention.o_proj,
            ),
            mlp=Named(w1=mlp.up_proj, w2=mlp.gate_proj, c_proj=mlp.down_proj),
        )

    inner, config = model.model, model.config
    fields = {
        "hidden_size": config.hidden_size,
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "kv_channels": config.hidden_size // config.num_attention_heads,
        # Their MLP has two halves of half this width.
        "intermediate_size": 2 * config.intermediate_size,
        "seq_length": POSITIONS,
        "layer_norm_epsilon": config.rms_norm_eps,
        "vocab_size": config.vocab_size,
        "scale_attn_weights": True,
        "initializer_range": config.initializer_range,
        "use_dynamic_ntk": True,
        "use_logn_attn": True,
    }
    return Named(
        config=_configuration(fields, "QWenLMHeadModel"),
        transformer=Named(
            wte=inner.embed_tokens, ln_f=inner.norm, h=[block(layer) for layer in inner.layers]
        ),
        lm_head=model.lm_head,
    )


def _configuration(fields: dict[str, Any], kind: str) -> Any:
    from transformers import PreTrainedConfig

    config = PreTrainedConfig()
    for name, value in (fields | {"architectures": [kind]}).items():
        setattr(config, name, value)
    return config
