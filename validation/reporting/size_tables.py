"""Models of every size, with weights that stay and with streamed ones, side by side."""

from collections.abc import Iterable

from validation.reporting.results import Result
from validation.reporting.tables import Column, Row, Table
from validation.reporting.wording import count, tokens


def tabulate_sizes(kept: Iterable[Result], streamed: Iterable[Result]) -> Table:
    """By checkpoint: logits of the fork that differ, and whether streaming changed any figure.

    Args:
        kept: of models with all weights in memory.
        streamed: of the same with one layer's at a time.
    """
    found, others = ({(r.checkpoint, r.context): r for r in each} for each in (kept, streamed))
    rows = []
    for checkpoint in dict.fromkeys(name for name, _ in found):
        contexts = [context for name, context in found if name == checkpoint]
        pairs = [(found[checkpoint, context], others[checkpoint, context]) for context in contexts]
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


def _figures(result: Result) -> tuple[object, ...]:
    """What the weights' way into memory must not change: the reference's bits, errors, floors."""
    return (
        result.verdict,
        result.reference_sha256,
        result.logits_differing,
        result.floors,
        result.bins,
        result.power_ratio,
    )
