"""How large a rate of false alarms may be that so many comparisons did not show."""

from scipy.stats import beta

_CONFIDENCE = 0.95


def upper_rate(alarms: int, trials: int) -> float:
    """Upper end of the one-sided 95 % interval of a rate (Clopper and Pearson 1934).

    Args:
        alarms: trials with an alarm.
        trials: independent ones.

    Raises:
        ValueError: there are no trials, or fewer than alarms.
    """
    if not 0 <= alarms <= trials or trials < 1:
        raise ValueError(f"{alarms} alarms of {trials} trials")
    if alarms == trials:
        return 1.0
    return float(beta.ppf(_CONFIDENCE, alarms + 1, trials - alarms))
