"""The tables of the study `position-bias`."""

from itertools import chain

import numpy as np

from validation.reporting.tables import Column, Row, Table
from validation.reporting.wording import ABSENT, tokens
from validation.studies.contrasts import head_name, loaded
from validation.studies.position_bias_figures import MOST_COPYING, Grid, Profiles, gain

NEAR = 64
FAR = 1024
"""Tokens away: what is called near and far."""


def queries_of(profiles: Profiles, group: int) -> str:
    """The octave of positions that a group of queries stands for."""
    start, stop = profiles.octave(group)
    return f"{tokens(start)} to {tokens(stop)}"


def tabulate_attention(profiles: Profiles) -> Table:
    """Shares by distance, group by group and seed by seed."""
    spans = [(0, NEAR), (NEAR, FAR), (FAR, None)]
    headings = (
        "queries",
        "seed",
        "first token",
        f"to {NEAR} away",
        f"{NEAR} to {tokens(FAR)} away",
        f"{tokens(FAR)} away and more",
    )
    rows = []
    for group in range(len(profiles.groups)):
        for record, first in zip(profiles.records, profiles.first_by_seed(group), strict=True):
            shares = [profiles.at_distances(group, *span, [record]) for span in spans]
            cells = (first, *shares)
            rows.append(
                Row((queries_of(profiles, group), str(record.unit["seed"]), *map(str, cells)))
            )
    error = max(float(loaded(record.values["largest_error_of_sum"])) for record in profiles.records)
    return Table(
        "Shares of attention, mean of all heads; by distance without the first token "
        f"(all of a query's add up to 1 within {error:.1e})",
        tuple(Column(heading, "text") for heading in headings),
        tuple(rows),
    )


def tabulate_grid(grid: Grid) -> Table:
    """Gains, cell by cell and seed by seed."""
    seeds = (f"seed {seed}" for seed in grid.seeds)
    columns = ("tokens", "depth", *seeds, "mean", "log-probability itself")
    rows = []
    for length in grid.lengths:
        for depth in grid.depths:
            cell = grid.chosen(length=length, depth=depth)
            by_seed = {record.unit["seed"]: gain(record) for record in cell.records}
            cells = (_figure(by_seed.get(seed)) for seed in grid.seeds)
            of_all = (_figure(grid.cell(length, depth)), _figure(cell.log_probability))
            rows.append(Row((tokens(length), f"{depth:.0%}", *cells, *of_all)))
        by_seed_means = (
            str(grid.chosen(length=length, seed=seed).mean_gain)
            if grid.chosen(length=length, seed=seed).records
            else ABSENT
            for seed in grid.seeds
        )
        row = grid.chosen(length=length)
        of_all = (str(row.mean_gain), _figure(row.log_probability))
        rows.append(Row((tokens(length), "all", *by_seed_means, *of_all)))
    return Table(
        "Gain in log-probability of the passkey, nats a token",
        (Column(columns[0], "text"), Column(columns[1], "text"), *map(Column, columns[2:])),
        tuple(rows),
    )


def _figure(value: float | None) -> str:
    return ABSENT if value is None or not np.isfinite(value) else f"{value:.2f}"


def tabulate_heads(grid: Grid, profiles: Profiles | None) -> Table:
    """Copy scores of the heads of all lists."""
    listed = [grid.most_copying, *(grid.chosen(seed=seed).most_copying for seed in grid.seeds)]
    heads = dict.fromkeys(chain.from_iterable(listed))
    first = profiles.first_of_heads(-1) if profiles else None
    rows = [
        Row(
            (
                head_name(*head),
                *(str(grid.chosen(seed=seed).copy_score([head])) for seed in grid.seeds),
                ABSENT if first is None else f"{first[head]:.3f}",
            )
        )
        for head in heads
    ]
    headings = (*(f"copy score, seed {seed}" for seed in grid.seeds), "share of the first token")
    return Table(
        f"The {MOST_COPYING} heads with the highest copy scores, of each seed and of all",
        (Column("head", "text"), *map(Column, headings)),
        tuple(rows),
    )
