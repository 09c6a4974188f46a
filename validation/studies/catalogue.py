"""The studies by name; a study's module is imported only once it is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from validation.studies.study import Study

STUDIES = {
    "encodings": 2,
    "position-bias": 2,
    "frequencies": 4,
    "interventions": 2,
    "drift": 4,
    "learned": 2,
}
"""By name, how many texts each reads unless it is told: what half an hour on 2 cores allows."""


def load_study(name: str) -> "Study":
    """The study of that name, `STUDY` of its module."""
    module = import_module(f"validation.studies.{name.replace('-', '_')}_study")
    study: Study = module.STUDY
    return study
