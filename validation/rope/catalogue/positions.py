"""Mistakes in which row of the tables a token gets."""

from validation.rope.faults import TENSORS, Fault, Need, in_family

_CHUNKS = frozenset({Need.CHUNKS})
_PADDING = frozenset({Need.PADDING})
_MASK = frozenset({Need.MASK})

_POSITIONS = "pos = torch.arange(n_ctx, dtype=high_precision)"
_QUERIES = "self.apply_rotary(q, kv_cache_pos_offset, attention_mask)"
_KEYS = "self.apply_rotary(k, 0, attention_mask)"
_COS_ROWS = """rotary_cos = cast(torch.Tensor, table_cos)[
                None, past_kv_pos_offset : past_kv_pos_offset + x_pos, None, :
            ]"""
_SIN_ROWS = _COS_ROWS.replace("cos", "sin")
_IDS = "offset_position_ids = get_offset_position_ids(past_kv_pos_offset, attention_mask)\n"
_BEGIN = " " * 12
_SHIFTED = "attention_mask.cumsum(dim=1) - 1  # [batch"
_FILLED = "shifted_position_ids.masked_fill(shifted_position_ids < 0, 0)"
_NEEDED = "max_pos_needed = past_kv_pos_offset + x_pos"
_INITIAL = """                base=self._rotary_base(),
                dtype=self.cfg.dtype,
            )
            self.register_buffer("rotary_sin", sin.detach())"""
_NEW_ROWS = "        # Update the registered buffers\n"
_EXTENSION = """                new_size,
                base=self._rotary_base(),
                dtype=self.cfg.dtype,
                device"""
_IS_SHORT = "if max_pos_needed > self.rotary_cos.shape[0]:"
_QUERY_POSITIONS = """query_positions = torch.arange(
            past_kv_pos_offset,
            past_kv_pos_offset + query_ctx_length,
            device=device,
        )"""


def _rows(index: str) -> tuple[tuple[str, str], ...]:
    """Edits that take rows `index` of both tables, whether or not there is a mask."""
    whole = "torch.arange(past_kv_pos_offset, past_kv_pos_offset + x_pos)"
    return (
        (_COS_ROWS, f"rotary_cos = table_cos[None, {index.format(whole)}, None, :]"),
        (_SIN_ROWS, f"rotary_sin = table_sin[None, {index.format(whole)}, None, :]"),
        (
            _IDS,
            f"{_IDS}            offset_position_ids = {index.format('offset_position_ids')}\n",
        ),
    )


POSITIONS = (
    *in_family(
        "off by one",
        Fault(
            "positions-from-one",
            "Queries and keys are both one position late: the same rotations but for rounding.",
            ((_POSITIONS, f"{_POSITIONS} + 1"),),
        ),
        Fault(
            "positions-shifted-far",
            "Queries and keys are both 100,000 positions late: the same but for rounding.",
            ((_POSITIONS, f"{_POSITIONS} + 100000"),),
        ),
        Fault(
            "queries-one-late",
            "Queries, not keys, are one position late.",
            (
                (
                    _QUERIES,
                    "self.apply_rotary(torch.cat([q[:, :1], q], 1), kv_cache_pos_offset)[:, 1:]",
                ),
            ),
        ),
        Fault(
            "keys-one-late",
            "Keys, not queries, are one position late.",
            ((_KEYS, "self.apply_rotary(torch.cat([k[:, :1], k], 1), 0)[:, 1:]"),),
        ),
        Fault(
            "positions-stretched",
            "Positions are 0.01 % too far apart.",
            ((_POSITIONS, f"{_POSITIONS} * 1.0001"),),
        ),
        Fault(
            "mask-excludes-self",
            "A token does not attend to itself.",
            (
                (
                    "key_positions[None, :] <= query_positions",
                    "key_positions[None, :] < query_positions",
                ),
            ),
            needs=_MASK,
        ),
        Fault(
            "mask-admits-next",
            "A token attends to the next one.",
            ((_QUERY_POSITIONS, f"{_QUERY_POSITIONS} + 1"),),
            needs=_MASK,
        ),
    ),
    *in_family(
        "table growth",
        Fault(
            "positions-modulo-2048",
            "The table has 2048 rows and is read modulo 2048.",
            _rows("{} % 2048"),
            hidden_up_to=2048,
        ),
        Fault(
            "positions-clamped",
            "Beyond 2047 every token gets the last row of the first table.",
            _rows("{}.clamp(max=2047)"),
            hidden_up_to=2048,
        ),
        Fault(
            "table-not-regrown",
            "The table keeps 2048 rows: positions beyond have none.",
            ((_IS_SHORT, "if False:"),),
            hidden_up_to=2048,
        ),
        Fault(
            "growth-restarts",
            "The rows that growth adds count from 0 again.",
            (
                (
                    _NEW_ROWS,
                    "        sin, cos = (x[torch.arange(new_size) % 2048] for x in (sin, cos))\n"
                    + _NEW_ROWS,
                ),
            ),
            hidden_up_to=2048,
        ),
        Fault(
            "growth-repeats-a-row",
            "The rows that growth adds begin with the last one there was.",
            (
                (
                    _NEW_ROWS,
                    "        rows = torch.arange(new_size)\n"
                    "        sin, cos = (x[rows - (rows >= 2048).long()] for x in (sin, cos))\n"
                    + _NEW_ROWS,
                ),
            ),
            hidden_up_to=2048,
        ),
        Fault(
            "growth-unscaled",
            "A grown table has plain frequencies.",
            (
                (
                    "if self.cfg.use_NTK_by_parts_rope:",
                    "if self.cfg.use_NTK_by_parts_rope and n_ctx <= 2048:",
                ),
            ),
            hidden_up_to=2048,
        ),
        Fault(
            "growth-of-another-theta",
            "A table computed anew has the default theta.",
            ((_EXTENSION, _EXTENSION.replace("self._rotary_base()", "10000")),),
        ),
        Fault(
            "growth-in-bfloat16",
            "A table computed anew is bfloat16.",
            ((_EXTENSION, _EXTENSION.replace("self.cfg.dtype", "torch.bfloat16")),),
            needs=frozenset({Need.NOT_BFLOAT16}),
        ),
        Fault(
            "cached-table-of-another-theta",
            "The first 2048 rows are from a cache that was filled for theta 10000, and are kept.",
            (
                (_INITIAL, _INITIAL.replace("self._rotary_base()", "10000")),
                (
                    _NEW_ROWS,
                    "        old = self.calculate_sin_cos_rotary(\n"
                    "            self.cfg.rotary_dim, 2048, 10000, self.cfg.dtype\n        )\n"
                    "        sin = torch.cat([old[0], sin[2048:]])\n"
                    "        cos = torch.cat([old[1], cos[2048:]])\n" + _NEW_ROWS,
                ),
            ),
        ),
    ),
    *in_family(
        "chunks",
        Fault(
            "chunk-offset-lost",
            "The queries of every chunk count from 0.",
            (
                (
                    _IDS,
                    _IDS
                    + _BEGIN
                    + "offset_position_ids = offset_position_ids - past_kv_pos_offset\n",
                ),
            ),
            needs=_CHUNKS,
        ),
        Fault(
            "chunk-offset-off-by-one",
            "The queries of every chunk but the first are one position late.",
            ((_QUERIES, "self.apply_rotary(q, kv_cache_pos_offset + (kv_cache_pos_offset > 0))"),),
            needs=_CHUNKS,
        ),
        Fault(
            "keys-at-the-chunk-offset",
            "All keys, cached ones too, are rotated from the queries' offset on.",
            ((_KEYS, "self.apply_rotary(k, kv_cache_pos_offset)"),),
            needs=_CHUNKS,
        ),
        Fault(
            "newest-keys-alone-rotated",
            "Only the keys of the newest chunk are rotated; cached ones are taken for rotated.",
            (
                (
                    _KEYS,
                    "torch.cat([k[:, :kv_cache_pos_offset], self.apply_rotary("
                    "k[:, kv_cache_pos_offset:], kv_cache_pos_offset)], 1)",
                ),
            ),
            needs=_CHUNKS,
        ),
        Fault(
            "cached-keys-rotated-again",
            "Keys enter the cache rotated and are rotated again with all others.",
            (
                (
                    "k, v = past_kv_cache_entry.append(k, v)",
                    "k, v = past_kv_cache_entry.append("
                    "self.apply_rotary(k, kv_cache_pos_offset), v)",
                ),
            ),
            needs=_CHUNKS,
        ),
        Fault(
            "offset-lost-after-growth",
            "Queries of a chunk that ends beyond position 2047 count from 0.",
            (
                (
                    _IDS,
                    _IDS + _BEGIN + "offset_position_ids = offset_position_ids"
                    " - past_kv_pos_offset * (max_pos_needed > 2048)\n",
                ),
            ),
            needs=_CHUNKS,
            hidden_up_to=2048,
        ),
        Fault(
            "growth-ignores-the-offset",
            "Whether the table is long enough is asked of the chunk, not of its end.",
            ((_NEEDED, "max_pos_needed = x_pos"),),
            needs=_CHUNKS,
            hidden_up_to=2048,
        ),
        Fault(
            "chunk-mask-admits-next",
            "In every chunk but the first a token attends to the next one.",
            ((_QUERY_POSITIONS, f"{_QUERY_POSITIONS} + int(past_kv_pos_offset > 0)"),),
            needs=_CHUNKS,
        ),
    ),
    *in_family(
        "padding",
        Fault(
            "padding-counted",
            "Padding on the left takes up positions.",
            ((_SHIFTED, _SHIFTED.replace("attention_mask", "torch.ones_like(attention_mask)")),),
            TENSORS,
            needs=_PADDING,
        ),
        Fault(
            "padding-counted-for-keys",
            "Padding on the left takes up positions of keys, not of queries.",
            ((_KEYS, "self.apply_rotary(k, 0)"),),
            needs=_PADDING,
        ),
        Fault(
            "padding-of-the-first-row",
            "Every row of a batch is shifted as its first one.",
            ((_FILLED, f"{_FILLED}[:1].expand_as(attention_mask)"),),
            TENSORS,
            needs=_PADDING,
        ),
    ),
)
