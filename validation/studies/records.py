"""A study on disk: a JSON line for every unit of work, with what was measured in it."""

from typing import TypeAlias

from pydantic import JsonValue

from validation.reporting.records import Amount, Count, Record, Sha256

STUDY = "study.jsonl"

Unit: TypeAlias = dict[str, str | int | float]
"""What a unit of work varies, by name, such as `{"scheme": "yarn", "seed": 0}`."""

Values: TypeAlias = dict[str, JsonValue]
"""What was measured in it, by name: numbers, and lists of numbers; units of measure in names."""


class StudyProvenance(Record):
    """What a unit was measured with.

    Attributes:
        key: over all that could change what was measured.
        study_sha256: over the code that measured it.
        prompt_sha256: over the text that windows are cut from.
    """

    key: Sha256
    harness_sha256: Sha256
    study_sha256: Sha256
    git_commit: str
    git_dirty: bool
    sdist_sha256: Sha256
    tree_sha256: Sha256
    series_sha256: Sha256 | None
    checkpoint_sha256: Sha256
    layers: Count
    prompt_sha256: Sha256
    prompt_source: str
    packages: dict[str, str]
    settings: dict[str, str]
    measured_at: str


class StudyRecord(Record):
    """One unit of one study.

    Attributes:
        unit: what it varies.
        values: what was measured.
        seconds: that it took.
    """

    study: str
    unit: Unit
    checkpoint: str
    base: str
    dtype: str
    device: str
    values: Values
    seconds: Amount
    provenance: StudyProvenance
