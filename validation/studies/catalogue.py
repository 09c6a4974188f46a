"""The studies by name; a study's module is imported only once it is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from validation.studies.study import Study

STUDIES = (
    "encodings",
    "position-bias",
    "frequencies",
    "interventions",
    "drift",
    "learned",
)


def load_study(name: str) -> "Study":
    """The study of that name, `STUDY` of its module."""
    module = import_module(f"validation.studies.{name.replace('-', '_')}_study")
    study: Study = module.STUDY
    return study
