"""Judges an exercise: does the fork break the client?"""

from itertools import zip_longest

from validation.reporting.client_records import Attempt, Ending, Figure, Outcome, Value


def judge_client(stock: Attempt, fork: Attempt) -> tuple[Outcome, str]:
    """What came of an exercise, and the reason in a sentence."""
    endings = stock.ending, fork.ending
    if Ending.NOT_INSTALLED in endings:
        return Outcome.NOT_INSTALLED, fork.reason or stock.reason
    if fork.ending is not Ending.COMPLETED:
        if stock.ending is Ending.FAILED and stock.reason == fork.reason:
            return Outcome.SAME_FAILURE, fork.reason
        return Outcome.BROKEN, fork.reason
    if beyond := [seen for seen in _figures(fork) if seen.is_beyond]:
        worst = beyond[0]
        return Outcome.BROKEN, f"{worst.figure}: {worst.value:.3g}, above {worst.at_most:.3g}"
    if stock.ending is not Ending.COMPLETED:
        unlike = sum(value.unlike_transformers or 0 for value in _values(fork))
        if unlike:
            return Outcome.DIFFERS, f"{unlike} values are not transformers'"
        return Outcome.FORK_ONLY, stock.reason
    outcome, reason = _compare(_values(stock), _values(fork))
    also = (f"; {seen.figure}: {seen.value:g}" for seen in _figures(fork) if seen.at_most is None)
    return outcome, "".join((reason, *also))


def _compare(stock: list[Value], fork: list[Value]) -> tuple[Outcome, str]:
    """Value by value: the same bits, or transformers'."""
    exact, size = [], 0
    for theirs, ours in zip_longest(stock, fork):
        if theirs is None or ours is None or theirs.name != ours.name:
            return Outcome.DIFFERS, f"they compute other things: {_named(theirs)}, {_named(ours)}"
        size += ours.size
        if ours.unlike_transformers:
            what = f"{ours.name}: {ours.unlike_transformers} of {ours.size} values"
            return Outcome.DIFFERS, f"{what} are not transformers'"
        if theirs.sha256 == ours.sha256:
            continue
        if ours.unlike_transformers is None:
            return Outcome.DIFFERS, f"{ours.name} is another on the fork"
        exact.append(theirs)
    if not exact:
        return Outcome.SAME, f"{len(fork)} results of {size:,} values are the same"
    return Outcome.EXACT, "; ".join(
        f"{value.name}: on the release {value.unlike_transformers:,} of {value.size:,} values "
        "are not transformers', on the fork none"
        for value in exact
    )


def _named(value: Value | None) -> str:
    return "nothing" if value is None else value.name


def _values(attempt: Attempt) -> list[Value]:
    return [seen for seen in attempt.seen if isinstance(seen, Value)]


def _figures(attempt: Attempt) -> list[Figure]:
    return [seen for seen in attempt.seen if isinstance(seen, Figure)]
