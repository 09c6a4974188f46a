"""Models of every size, with weights that stay and with streamed ones, side by side."""

from pathlib import Path

from validation.reporting.results import RESULTS, Result
from validation.reporting.tables import Column, Row, Table
from validation.reporting.wording import count, tokens


def tabulate_sizes(kept: Path, streamed: Path) -> Table:
    """By checkpoint: logits of the fork that differ, and whether streaming changed any figure.

    Args:
        kept: folder of results of models with all weights in memory.
        streamed: of the same with one layer's at a time.
    """
    found = {folder: _read(folder) for folder in (kept, streamed)}
    rows = []
    for checkpoint in dict.fromkeys(name for name, _ in found[kept]):
        contexts = [context for name, context in found[kept] if name == checkpoint]
        pairs = [
            tuple(found[folder][checkpoint, context] for folder in (kept, streamed))
            for context in contexts
        ]
        differing = [sum(pair[mode].logits_differing or 0 for pair in pairs) for mode in (0, 1)]
        same = all(_figures(one) == _figures(other) for one, other in pairs)
        rows.append(
            Row(
                (
                    checkpoint.removeprefix("random:"),
                    f"{tokens(min(contexts))} to {tokens(max(contexts))}",
                    count(sum(pair[0].logits_total or 0 for pair in pairs)),
                    *map(count, differing),
                    "yes" if same else "no",
                )
            )
        )
    figures = ("logits", "differ, kept", "differ, streamed", "same figures")
    columns = (Column("shape", "text"), Column("tokens", "text"), *map(Column, figures))
    return Table("The fork beside transformers", columns, tuple(rows))


def _read(folder: Path) -> dict[tuple[str, int], Result]:
    lines = (folder / RESULTS).read_text(encoding="utf-8").splitlines()
    results = map(Result.model_validate_json, lines)
    return {(r.checkpoint, r.context): r for r in results}


def _figures(result: Result) -> tuple[object, ...]:
    """What the weights' way into memory must not change: errors, and the reference's own floors."""
    return (
        result.verdict,
        result.logits_differing,
        result.floors,
        result.bins,
        result.power_ratio,
    )
