"""Mistakes in the frequencies: Llama 3.1's scaling and the geometric sequence it scales."""

from validation.rope.faults import LLAMA_THETA, Fault, Need, in_family

_FACTOR = "factor = self.cfg.NTK_by_parts_factor"
_LOW = "low_freq_factor = self.cfg.NTK_by_parts_low_freq_factor"
_HIGH = "high_freq_factor = self.cfg.NTK_by_parts_high_freq_factor"
_ORIGINAL = "old_context_len = self.cfg.NTK_original_ctx_len"
_THETA = "        return self.cfg.rotary_base\n"
_EXPONENT = "torch.arange(0, rotary_dim, 2, dtype=torch.int64).float() / rotary_dim"
_DIVIDED = "wavelen > low_freq_wavelen, inv_freq / factor, inv_freq"
_WAVELENGTH = "wavelen = 2 * math.pi / inv_freq"
_SMOOTH = """(old_context_len / wavelen - low_freq_factor) / (
                high_freq_factor - low_freq_factor
            )"""
_SMOOTHED = """                1 - smooth_factor
            ) * inv_freq_llama / factor + smooth_factor * inv_freq_llama"""
_MEDIUM = "~(wavelen < high_freq_wavelen) * ~(wavelen > low_freq_wavelen)"
_CHOSEN = "torch.where(is_medium_freq, smoothed_inv_freq, inv_freq_llama)"

SCALING = (
    *in_family(
        "no scaling",
        Fault(
            "scaling-off",
            "The llama3 branch is never taken: plain RoPE (TransformerLens 2.8.0).",
            (("if self.cfg.use_NTK_by_parts_rope:", "if False:"),),
        ),
        Fault(
            "factor-ignored",
            "Low frequencies are not divided by the scaling factor: plain RoPE.",
            ((_FACTOR, "factor = 1.0"),),
        ),
        Fault(
            "low-band-unscaled",
            "Only the medium band is scaled.",
            ((_DIVIDED, "wavelen > low_freq_wavelen, inv_freq, inv_freq"),),
        ),
    ),
    *in_family(
        "factor",
        Fault("factor-doubled", "factor is twice as large.", ((_FACTOR, f"{_FACTOR} * 2"),)),
        Fault("factor-halved", "factor is half as large.", ((_FACTOR, f"{_FACTOR} / 2"),)),
        Fault("factor-1-percent", "factor is 1 % too large.", ((_FACTOR, f"{_FACTOR} * 1.01"),)),
        Fault("factor-0.1-percent", "factor is 0.1 % off.", ((_FACTOR, f"{_FACTOR} * 1.001"),)),
        Fault(
            "factor-multiplies",
            "Low frequencies are multiplied by factor.",
            ((_DIVIDED, "wavelen > low_freq_wavelen, inv_freq * factor, inv_freq"),),
        ),
    ),
    *in_family(
        "low and high",
        Fault(
            "low-high-swapped",
            "low_freq_factor and high_freq_factor are exchanged.",
            (
                (_LOW, "low_freq_factor = HIGH"),
                (_HIGH, "high_freq_factor = LOW"),
                ("= HIGH", "= self.cfg.NTK_by_parts_high_freq_factor"),
                ("= LOW", "= self.cfg.NTK_by_parts_low_freq_factor"),
            ),
        ),
        Fault("low-1-percent", "low_freq_factor is 1 % off.", ((_LOW, f"{_LOW} * 1.01"),)),
        Fault("high-1-percent", "high_freq_factor is 1 % off.", ((_HIGH, f"{_HIGH} * 1.01"),)),
    ),
    *in_family(
        "original context",
        Fault(
            "original-is-n-ctx",
            "n_ctx stands in for original_max_position_embeddings (TransformerLens 2.8.1-2.15.0).",
            ((_ORIGINAL, "old_context_len = self.cfg.n_ctx"),),
        ),
        Fault(
            "original-is-2048",
            "2048 stands in for original_max_position_embeddings (the n_ctx of those releases).",
            ((_ORIGINAL, "old_context_len = 2048"),),
        ),
        Fault("original-1-percent", "It is 1 % off.", ((_ORIGINAL, f"{_ORIGINAL} * 1.01"),)),
    ),
    *in_family(
        "theta",
        Fault(
            "theta-10000",
            "The checkpoint's theta is ignored (TransformerLens 2.8.0).",
            ((_THETA, "        return 10000\n"),),
        ),
        Fault(
            "theta-500000",
            "Llama 3.1's theta is hard-coded.",
            ((_THETA, f"        return {LLAMA_THETA}\n"),),
            needs=frozenset({Need.ANOTHER_THETA}),
        ),
        Fault(
            "theta-1-percent",
            "theta is 1 % too large.",
            ((_THETA, "        return 1.01 * self.cfg.rotary_base\n"),),
        ),
        Fault(
            "exponent-over-dim-minus-2",
            "The exponents reach 1 at the last pair.",
            ((_EXPONENT, _EXPONENT.replace("/ rotary_dim", "/ (rotary_dim - 2)")),),
        ),
    ),
    *in_family(
        "boundary",
        Fault(
            "low-boundary-inclusive",
            "A wavelength on the low boundary is divided, and then smoothed as well.",
            ((_DIVIDED, _DIVIDED.replace(">", ">=")),),
            needs=frozenset({Need.BOUNDARY}),
        ),
        Fault(
            "low-boundary-left-out",
            "A wavelength on the low boundary is neither divided nor smoothed.",
            ((_MEDIUM, _MEDIUM.replace("~(wavelen >", "~(wavelen >=")),),
            needs=frozenset({Need.BOUNDARY}),
        ),
        Fault(
            "high-boundary-inclusive",
            "A wavelength on the high boundary counts as short, not as medium.",
            ((_MEDIUM, _MEDIUM.replace("<", "<=")),),
            equivalent="there smooth_factor is 1, and (1 - 1) * f / factor + 1 * f is f",
        ),
        Fault(
            "frequency-against-wavelength",
            "The frequency, not the wavelength, is compared with the low boundary.",
            ((_DIVIDED, _DIVIDED.replace("wavelen >", "inv_freq >")),),
        ),
        Fault(
            "wavelength-without-2-pi",
            "The wavelength is 1 / inv_freq.",
            ((_WAVELENGTH, "wavelen = 1 / inv_freq"),),
        ),
        Fault(
            "medium-band-unbounded",
            "Long wavelengths count as medium too.",
            ((_MEDIUM, "~(wavelen < high_freq_wavelen)"),),
        ),
    ),
    *in_family(
        "smoothing",
        Fault(
            "smoothing-missing",
            "The medium band is not scaled.",
            ((_CHOSEN, "inv_freq_llama"),),
        ),
        Fault(
            "smoothing-in-wavelength",
            "The medium band is interpolated linearly in the wavelength, not in its inverse.",
            (
                (
                    _SMOOTH,
                    "(low_freq_wavelen - wavelen) / (low_freq_wavelen - high_freq_wavelen)",
                ),
            ),
        ),
        Fault(
            "smoothing-in-log-wavelength",
            "The medium band is interpolated linearly in the logarithm of the wavelength.",
            (
                (
                    _SMOOTH,
                    "torch.log(low_freq_wavelen / wavelen) / math.log("
                    "low_freq_wavelen / high_freq_wavelen)",
                ),
            ),
        ),
        Fault(
            "smoothing-of-wavelengths",
            "Wavelengths are interpolated, not frequencies.",
            (
                (
                    f"(\n{_SMOOTHED}",
                    "inv_freq_llama / ((1 - smooth_factor) * factor + smooth_factor)",
                ),
            ),
        ),
        Fault(
            "smoothing-reversed",
            "The weights of scaled and unscaled frequency are exchanged.",
            (
                (
                    f"(\n{_SMOOTHED}",
                    "smooth_factor * inv_freq_llama / factor"
                    " + (1 - smooth_factor) * inv_freq_llama",
                ),
            ),
        ),
        Fault(
            "medium-scaled-twice",
            "The medium band is divided by factor, and then smoothed.",
            ((_DIVIDED, _DIVIDED.replace("low_freq_wavelen", "high_freq_wavelen")),),
        ),
    ),
)
