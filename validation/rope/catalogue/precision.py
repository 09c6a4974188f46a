"""Mistakes in how frequencies, positions, angles and tables are rounded."""

from validation.rope.faults import Fault, Need, in_family

_POSITIONS = "pos = torch.arange(n_ctx, dtype=high_precision)"
_POWERS = "torch.arange(0, rotary_dim, 2, dtype=torch.int64).float() / rotary_dim)\n            )"
_FACTOR = "factor = self.cfg.NTK_by_parts_factor"
_INV_FREQ = "inv_freq.to(device)[None, :]"
_ANGLES = f"angles = pos.to(device)[:, None] * {_INV_FREQ}"
_SIN_COS = "sin, cos = torch.sin(angles), torch.cos(angles)"
_RETURNED = "return sin.to(dtype), cos.to(dtype)"


def _tf32(name: str) -> str:
    """Source that rounds `name`, fp32, to the 10 bits of mantissa that TF32 keeps."""
    return f"(({name}.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)"


PRECISION = (
    *in_family(
        "rounding of frequencies",
        Fault(
            "inv-freq-bfloat16",
            "inv_freq is cast with the model, as HF's is by model.to(torch.bfloat16).",
            ((_INV_FREQ, "inv_freq.bfloat16().float().to(device)[None, :]"),),
        ),
        Fault(
            "inv-freq-float16",
            "inv_freq passes through float16.",
            ((_INV_FREQ, "inv_freq.half().float().to(device)[None, :]"),),
        ),
        Fault(
            "inv-freq-float64",
            "Powers, frequencies and angles are formed in float64: truer, and another function.",
            ((_POWERS, _POWERS.replace(".float()", ".double()")),),
        ),
        Fault(
            "powers-in-float64",
            "The powers of theta are formed in float64 and then rounded to fp32.",
            (
                (_POWERS, _POWERS.replace(".float()", ".double()")),
                (
                    _FACTOR,
                    f"inv_freq = inv_freq.float()\n            {_FACTOR}",
                ),
            ),
        ),
    ),
    *in_family(
        "rounding of positions",
        Fault(
            "positions-bfloat16",
            "Positions are bfloat16: exact up to 256.",
            ((_POSITIONS, f"{_POSITIONS}.bfloat16().to(high_precision)"),),
            hidden_up_to=257,
        ),
        Fault(
            "positions-float16",
            "Positions are float16: exact up to 2048.",
            ((_POSITIONS, f"{_POSITIONS}.half().to(high_precision)"),),
            hidden_up_to=2049,
        ),
    ),
    *in_family(
        "rounding of angles",
        Fault(
            "double-reciprocal",
            "Angles are pos / (1 / inv_freq): two roundings (TransformerLens up to 3.9.0).",
            ((_ANGLES, "angles = pos.to(device)[:, None] / (1 / inv_freq.to(device))[None, :]"),),
        ),
        Fault(
            "angles-tf32",
            "Angles are a product of TF32 operands (transformers before 5.19, on CUDA).",
            (
                (
                    _ANGLES,
                    f"angles = {_tf32('pos')}.to(device)[:, None]"
                    f" * {_tf32('inv_freq')}.to(device)[None, :]",
                ),
            ),
        ),
        Fault(
            "angles-in-dtype",
            "Angles are rounded to the model's dtype before sin and cos.",
            ((_SIN_COS, "angles = angles.to(dtype).float()\n        " + _SIN_COS),),
            needs=frozenset({Need.HALF}),
        ),
        Fault(
            "angles-modulo-2-pi",
            "Angles are reduced modulo a rounded 2 pi before sin and cos.",
            (
                (
                    _SIN_COS,
                    "angles = torch.remainder(angles, 2 * math.pi)\n        " + _SIN_COS,
                ),
            ),
        ),
        Fault(
            "angles-accumulated",
            "Each angle is the one before plus inv_freq, as a running sum rounds it.",
            (
                (
                    _ANGLES,
                    "angles = torch.cumsum(inv_freq.to(device).expand(n_ctx, -1), 0)"
                    " - inv_freq.to(device)",
                ),
            ),
        ),
        Fault(
            "angles-by-outer-product",
            "Angles are an outer product of positions and frequencies.",
            ((_ANGLES, "angles = torch.outer(pos.to(device), inv_freq.to(device))"),),
            equivalent="each angle is one product either way: nothing is summed",
        ),
    ),
    *in_family(
        "rounding of tables",
        Fault(
            "tables-bfloat16",
            "The tables pass through bfloat16 whatever the model's dtype.",
            ((_RETURNED, "return sin.bfloat16().to(dtype), cos.bfloat16().to(dtype)"),),
            needs=frozenset({Need.NOT_BFLOAT16}),
        ),
        Fault(
            "tables-float16",
            "The tables pass through float16 whatever the model's dtype.",
            ((_RETURNED, "return sin.half().to(dtype), cos.half().to(dtype)"),),
            needs=frozenset({Need.NOT_FLOAT16}),
        ),
        Fault(
            "tables-truncated",
            "The tables lose their last 4 bits instead of none.",
            (
                (
                    _RETURNED,
                    "sin, cos = ((x.view(torch.int32) & ~0xF).view(torch.float32)"
                    " for x in (sin, cos))\n        " + _RETURNED,
                ),
            ),
        ),
        Fault(
            "tables-not-cast",
            "The tables stay fp32, so that queries and keys of a half-precision model are too.",
            ((_RETURNED, "return sin, cos"),),
            needs=frozenset({Need.HALF}),
        ),
        Fault(
            "sin-cos-before-repeat",
            "sin and cos are taken of the angles' other copy.",
            ((_SIN_COS, "sin, cos = torch.sin(angles.clone()), torch.cos(angles.clone())"),),
            equivalent="sin and cos are elementwise",
        ),
    ),
)
