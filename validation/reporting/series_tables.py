"""What a cover letter says of its series: where it begins, how large each patch is, float64."""

from transformer_lens_fork.bases import Base
from transformer_lens_fork.layout import patches_path, read_patches
from transformer_lens_fork.patchfile import Patch, read_patch
from transformer_lens_fork.series import series_sha256
from validation.reporting.staged import StageResult
from validation.reporting.tables import Column, Row, Table
from validation.reporting.wording import count

_SOURCES = "transformer_lens/"


def list_pins(base: Base) -> str:
    """Where the series begins, and what it is, by hashes."""
    return "\n".join(
        (
            f"- TransformerLens {base.version}: {base.why}",
            f"- sdist on PyPI, sha256: `{base.sdist_sha256}`",
            f"- that sdist as a git commit: `{base.base_commit}`",
            f"- the patches in order, sha256: `{series_sha256(base)}`",
            f"- transformers: {base.transformers}",
        )
    )


def tabulate_patches(base: Base) -> Table:
    """Every patch, with the lines it adds to sources and tests, and takes away."""
    folder = patches_path(base)
    rows = []
    for number, name in enumerate(read_patches(base), 1):
        patch = read_patch(folder / name)
        sources, tests = (_changed(patch, of_sources=each) for each in (True, False))
        rows.append(Row((f"{number}", _subject(patch), *sources, tests[0])))
    names = ("", "patch")
    figures = ("source lines added", "removed", "test lines added")
    columns = (*(Column(name, "text") for name in names), *map(Column, figures))
    return Table("Patches", columns, tuple(rows))


def _subject(patch: Patch) -> str:
    # Long ones are folded (RFC 5322, section 2.2.3).
    header = "\n".join(line.text for line in patch.header).replace("\n ", " ")
    return header.partition("\nSubject: ")[2].partition("\n")[0]


def _changed(patch: Patch, *, of_sources: bool) -> tuple[str, str]:
    """Lines added and removed."""
    markers = [
        line.content[:1]
        for file in patch.files
        if file.path.startswith(_SOURCES) == of_sources
        for hunk in file.hunks
        for line in hunk.lines
    ]
    return count(markers.count(b"+")), count(markers.count(b"-"))


def tabulate_distances(proofs: list[StageResult]) -> Table:
    """How far everybody's angles and tables are from each oracle, in float32."""
    rows = []
    for stage in ("INV_FREQ", "ANGLES", "TABLES"):
        found = {
            p.subject: row
            for p in proofs
            if p.dtype == "float32"
            for row in p.stages
            if row.stage == stage
        }
        reference = next(iter(found.values()))
        for distance in reference.distances:
            mine = {
                name: next(d for d in row.distances if d.oracle == distance.oracle)
                for name, row in found.items()
            }
            figures = [_largest(distance.reference_largest)]
            figures += [_largest(mine[name].subject_largest) for name in ("fork", "stock")]
            rows.append(Row((stage, reference.unit, distance.oracle, *figures)))
    names = ("stage", "unit", "furthest from")
    columns = (
        *(Column(name, "text") for name in names),
        *map(Column, ("transformers", "fork", "stock")),
    )
    return Table("Largest distance at any position", columns, tuple(rows))


def _largest(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2g}"
