"""Mistakes in how queries and keys are rotated and meet."""

from validation.rope.faults import GROUPED_ATTENTION, Fault, Need, in_family

_FLIP_LAYOUT = "if self.cfg.rotary_adjacent_pairs:\n            rot_x"
_TABLE_LAYOUT = "if self.cfg.rotary_adjacent_pairs:\n            angles"
_FIRST_HALF = "rot_x[..., :n] = -x[..., n:]"
_SECOND_HALF = "rot_x[..., n:] = x[..., :n]"
_RETURNED = "return sin.to(dtype), cos.to(dtype)"
_JOINED = "return torch.cat([x_rotated, x_pass], dim=-1)"
_INV_FREQ = "inv_freq.to(device)[None, :]"
_QUERIES = "self.apply_rotary(q, kv_cache_pos_offset, attention_mask)"
_KEYS = "self.apply_rotary(k, 0, attention_mask)"
_ROTATED = "q = self.hook_rot_q("
_REPEATED_KEYS = "k = self._repeat_for_each_query_head(k)"
_REPEATED_VALUES = "v = self._repeat_for_each_query_head(v)"
_TILED = ".repeat(1, 1, self.repeat_kv_heads, 1)"
_FUSED_KEYS = "            k.transpose(1, 2),\n"
_FUSED_VALUES = "            v.transpose(1, 2),\n"
_FUSED_SCALE = "scaling=1 / self.attn_scale"
_FUSED_TILED = ".repeat(1, 1, q.size(2) // k.size(2), 1)"
_EAGER = frozenset({Need.EAGER})
_FUSED = frozenset({Need.FUSED})
_GROUPED = frozenset({Need.KEY_HEADS})
_SCALE = " * (1 / self.attn_scale)"


def _not(condition: str) -> str:
    return condition.replace("if self", "if not self")


ROTATION = (
    *in_family(
        "layout",
        Fault(
            "adjacent-pairs",
            "Adjacent pairs are rotated in a half-split checkpoint.",
            ((_FLIP_LAYOUT, _not(_FLIP_LAYOUT)), (_TABLE_LAYOUT, _not(_TABLE_LAYOUT))),
        ),
        Fault(
            "adjacent-flip",
            "Partners are adjacent and tables half-split.",
            ((_FLIP_LAYOUT, _not(_FLIP_LAYOUT)),),
        ),
        Fault(
            "adjacent-tables",
            "Partners are half-split and tables adjacent.",
            ((_TABLE_LAYOUT, _not(_TABLE_LAYOUT)),),
        ),
        Fault(
            "keys-adjacent",
            "Keys, not queries, were permuted to adjacent pairs, as Meta's checkpoints are.",
            (
                (
                    _KEYS,
                    'self.apply_rotary(einops.rearrange(k, "b p h (t d) -> b p h (d t)", t=2),'
                    " 0, attention_mask)",
                ),
            ),
        ),
    ),
    *in_family(
        "sign",
        Fault(
            "rotation-reversed",
            "sin has the wrong sign: queries and keys turn backwards.",
            (
                (_FIRST_HALF, "rot_x[..., :n] = x[..., n:]"),
                (_SECOND_HALF, "rot_x[..., n:] = -x[..., :n]"),
            ),
        ),
        Fault(
            "sign-lost",
            "The minus of the partner is lost: no rotation but a reflection.",
            ((_FIRST_HALF, "rot_x[..., :n] = x[..., n:]"),),
        ),
        Fault(
            "keys-reversed",
            "Keys turn backwards and queries forwards.",
            (
                (
                    _KEYS,
                    "(2 * self.rotary_cos[None, : k.shape[1], None, :] * k"
                    " - self.apply_rotary(k, 0, attention_mask))",
                ),
            ),
        ),
        Fault(
            "sin-cos-swapped",
            "sin and cos are exchanged.",
            ((_RETURNED, "return cos.to(dtype), sin.to(dtype)"),),
        ),
    ),
    *in_family(
        "partial rotation",
        Fault(
            "half-of-head-dim",
            "Only the first half of head_dim is rotated.",
            (
                (
                    _JOINED,
                    "n = x.shape[-1] // 2\n"
                    "        return torch.cat([x_rotated[..., :n], x[..., n:]], dim=-1)",
                ),
            ),
        ),
        Fault(
            "quarter-of-the-pairs",
            "Three quarters of the pairs, those of low frequency, do not turn.",
            (
                (
                    _INV_FREQ,
                    f"(inv_freq * (torch.arange(len(inv_freq)) < len(inv_freq) // 4))"
                    f"{_INV_FREQ.removeprefix('inv_freq')}",
                ),
            ),
        ),
        Fault(
            "last-pair-still",
            "The pair of lowest frequency does not turn.",
            (
                (
                    _INV_FREQ,
                    f"(inv_freq * (torch.arange(len(inv_freq)) < len(inv_freq) - 1))"
                    f"{_INV_FREQ.removeprefix('inv_freq')}",
                ),
            ),
        ),
        Fault("keys-not-rotated", "Keys are not rotated.", ((_KEYS, "k"),)),
        Fault(
            "queries-rotated-twice",
            "Queries are rotated twice.",
            ((_QUERIES, f"self.apply_rotary({_QUERIES}, kv_cache_pos_offset, attention_mask)"),),
        ),
        Fault(
            "values-rotated",
            "Values are rotated as keys are.",
            ((_ROTATED, f"v = self.apply_rotary(v, 0, attention_mask)\n            {_ROTATED}"),),
        ),
    ),
    *in_family(
        "heads",
        Fault(
            "kv-heads-tiled",
            "Keys and values are tiled over the heads, not repeated: queries meet others' keys.",
            ((_REPEATED_KEYS, f"k = k{_TILED}"), (_REPEATED_VALUES, f"v = v{_TILED}")),
            GROUPED_ATTENTION,
            needs=_EAGER | _GROUPED,
        ),
        Fault(
            "key-heads-tiled",
            "Keys, not values, are tiled over the heads.",
            ((_REPEATED_KEYS, f"k = k{_TILED}"),),
            GROUPED_ATTENTION,
            needs=_EAGER | _GROUPED,
        ),
        Fault(
            "key-heads-rolled",
            "Every group of queries meets the next group's keys.",
            ((_REPEATED_KEYS, f"{_REPEATED_KEYS}.roll(1, dims=2)"),),
            GROUPED_ATTENTION,
            needs=_EAGER | _GROUPED,
        ),
        Fault(
            "fused-kv-heads-tiled",
            "Fused attention is given keys and values tiled over the heads.",
            (
                (_FUSED_KEYS, _FUSED_KEYS.replace("k.", f"k{_FUSED_TILED}.")),
                (_FUSED_VALUES, _FUSED_VALUES.replace("v.", f"v{_FUSED_TILED}.")),
            ),
            needs=_FUSED | _GROUPED,
        ),
        Fault(
            "fused-key-heads-rolled",
            "In fused attention every group of queries meets the next group's keys.",
            ((_FUSED_KEYS, _FUSED_KEYS.replace("k.", "k.roll(1, dims=2).")),),
            needs=_FUSED | _GROUPED,
        ),
    ),
    *in_family(
        "scale",
        Fault(
            "scale-missing",
            "Scores are not divided by sqrt(head_dim).",
            ((_SCALE, ""),),
            needs=_EAGER,
        ),
        Fault(
            "scale-of-d-model",
            "Scores are divided by sqrt(d_model).",
            ((_SCALE, " / math.sqrt(self.cfg.d_model)"),),
            needs=_EAGER,
        ),
        Fault(
            "fused-scale-missing",
            "Fused attention does not divide scores by sqrt(head_dim).",
            ((_FUSED_SCALE, "scaling=1.0"),),
            needs=_FUSED,
        ),
        Fault(
            "fused-scale-of-d-model",
            "Fused attention divides scores by sqrt(d_model).",
            ((_FUSED_SCALE, "scaling=1 / math.sqrt(self.cfg.d_model)"),),
            needs=_FUSED,
        ),
        Fault(
            "attention-factor",
            "sin and cos are multiplied by YaRN's attention factor.",
            (
                (
                    _RETURNED,
                    "mscale = 0.1 * math.log(self.cfg.NTK_by_parts_factor) + 1.0\n"
                    "        return (sin * mscale).to(dtype), (cos * mscale).to(dtype)",
                ),
            ),
        ),
        Fault(
            "attention-factor-0.1-percent",
            "sin and cos are 0.1 % too large.",
            ((_RETURNED, "return (sin * 1.001).to(dtype), (cos * 1.001).to(dtype)"),),
        ),
    ),
)
