"""What the parent process says to the worker that runs a release, and where that leaves figures."""

from pathlib import Path

from validation.audit.releases import ModelName
from validation.execution.jobs import SubjectJob


class AuditJob(SubjectJob):
    """Run a release against the reference's hidden states.

    Attributes:
        model: what of the release runs the checkpoint.
    """

    model: ModelName


def frequencies_path(scratch: Path) -> Path:
    """Inverse frequencies of the release that ran last, by name [pair]."""
    return scratch / "frequencies.safetensors"
