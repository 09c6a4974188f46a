"""The tables of README and cover letters, written from the evidence: they cannot go stale."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from transformer_lens_fork.bases import REPOSITORY, get_base
from transformer_lens_fork.errors import InputError
from transformer_lens_fork.submit import COVER_LETTER
from transformer_lens_fork.upstream.summary import SUMMARY, Summary, tabulate
from validation.architectures.records import ARCHITECTURES, ArchitectureRecord
from validation.architectures.report import tabulate_briefly
from validation.audit.records import AUDIT, AuditRecord, latest
from validation.audit.report import tabulate_verdicts
from validation.execution.bench_grid import PAIRS
from validation.models.trees import FORK, STOCK
from validation.reporting.alarm_content import tabulate_dtypes
from validation.reporting.alarm_records import ALARMS, AlarmRecord
from validation.reporting.bench_content import BenchReport, compose_bench
from validation.reporting.bench_records import BENCH, BenchRecord
from validation.reporting.client_content import tabulate_clients
from validation.reporting.client_records import CLIENTS, ClientRecord
from validation.reporting.fault_content import compose_faults
from validation.reporting.fault_records import EFFECTS, FAULTS, EffectRecord, FaultRecord
from validation.reporting.records import Record, newest
from validation.reporting.report import escape_markdown, markdown_environment
from validation.reporting.results import RESULTS, Result
from validation.reporting.series_tables import (
    list_pins,
    tabulate_distances,
    tabulate_patches,
)
from validation.reporting.size_tables import tabulate_sizes
from validation.reporting.staged import STAGES, StageResult
from validation.reporting.tables import Table
from validation.reporting.wording import count, error, memory, ratio, tokens
from validation.studies import encodings_results, learned_results
from validation.studies.catalogue import STUDIES, load_study
from validation.studies.learned_page import say_beside_unfitted
from validation.studies.records import STUDY, StudyRecord

README = REPOSITORY / "README.md"
EVIDENCE = REPOSITORY / "validation" / "evidence"

DOCUMENTS = (
    README,
    REPOSITORY / "validation" / "studies" / "README.md",
    *sorted((REPOSITORY / "patches").glob(f"*/{COVER_LETTER}")),
)
"""Those with tables."""

_R = TypeVar("_R", bound=Record)

_STUDY = "study-"
"""Before a study's name: its folder of evidence."""

_Cases = dict[tuple[str, str, int], Result]

_BLOCK = re.compile(r"(<!-- evidence: (\S+) -->\n)(.*?)(<!-- end of evidence -->)", re.DOTALL)


def render_document(document: Path, evidence: Path = EVIDENCE) -> str:
    """Its text with every table between its markers drawn anew from `evidence`.

    Raises:
        InputError: a marker names evidence that is not there, or there is no marker.
    """
    text = document.read_text(encoding="utf-8")
    if not _BLOCK.search(text):
        raise InputError(
            f"{document.name} has no '<!-- evidence: NAME -->' marker; one for each table is."
        )

    def redraw(match: re.Match[str]) -> str:
        start, name, _, end = match.groups()
        if name not in _TABLES:
            accepted = ", ".join(_TABLES)
            raise InputError(f"{document.name}: {name!r} is no evidence; {accepted} are.")
        return f"{start}\n{_TABLES[name](evidence / name)}\n\n{end}"

    return _BLOCK.sub(redraw, text)


def _read(folder: Path) -> _Cases:
    results = _records(folder / RESULTS, Result)
    return {(r.subject, r.dtype, r.context): r for r in results}


def _records(path: Path, kind: type[_R]) -> list[_R]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [kind.model_validate_json(line) for line in lines]


def _pairs(cases: _Cases) -> Iterator[tuple[Result, Result]]:
    """Every case of the fork with stock's."""
    for (subject, dtype, context), fork in cases.items():
        if subject == FORK:
            yield fork, cases[STOCK, dtype, context]


def _identity_table(folder: Path) -> str:
    """The fork's differing logits, and stock's error, beside the floor."""
    cases = _read(folder)
    lines = [
        "| dtype | tokens | logits that differ, fork | stock | stock: mean error | floor | "
        "x floor, RMS |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for fork, stock in _pairs(cases):
        lines.append(
            f"| {fork.dtype} | {tokens(fork.context)} | **{count(fork.logits_differing)}** | "
            f"{count(stock.logits_differing)} of {count(stock.logits_total)} | "
            f"{error(stock.mean_abs)} | {error(stock.floor_mean_abs)} | "
            f"{ratio(stock.parity_ratio)} |"
        )
    return "\n".join(lines)


def _fused_table(folder: Path) -> str:
    """The fork's differing logits in fused attention, and the memory of its process."""
    lines = [
        "| dtype | tokens | logits that differ, fork | of | floor: mean error | "
        "peak memory, fork |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for (subject, _, _), fork in _read(folder).items():
        if subject == FORK:
            lines.append(
                f"| {fork.dtype} | {tokens(fork.context)} | **{count(fork.logits_differing)}** | "
                f"{count(fork.logits_total)} | {error(fork.floor_mean_abs)} | "
                f"{memory(fork.peak_memory_bytes)} |"
            )
    return "\n".join(lines)


def _floor_table(folder: Path) -> str:
    """Verdicts and mean errors of both, where the claim is the floor."""
    cases = _read(folder)
    lines = [
        "| tokens | verdict, fork | mean error | floor | verdict, stock | mean error | "
        "other top token |",
        "|---:|---|---:|---:|---|---:|---:|",
    ]
    for fork, stock in _pairs(cases):
        lines.append(
            f"| {tokens(fork.context)} | {fork.verdict} | {error(fork.mean_abs)} | "
            f"{error(fork.floor_mean_abs)} | {stock.verdict} | {stock.mean_abs:.2f} | "
            f"{1 - (stock.top1_agreement or 0.0):.0%} |"
        )
    return "\n".join(lines)


def _alarm_table(folder: Path) -> str:
    """Verdicts on correct computations, by dtype."""
    return _markdown(tabulate_dtypes(_records(folder / ALARMS, AlarmRecord)))


def _client_table(folder: Path) -> str:
    """What came of every client on the release and on the fork."""
    return _markdown(tabulate_clients(newest(_records(folder / CLIENTS, ClientRecord))))


def _fused_bench_tables(folder: Path) -> str:
    """Time and memory of a forward, fused, and how both grow with the context."""
    report = _forwards(folder, PAIRS[0])
    tables = (report.seconds, report.memory, report.added, report.growth)
    return "\n\n".join(f"{table.caption}:\n\n{_markdown(table)}" for table in tables)


def _eager_bench_table(folder: Path) -> str:
    """Time of an eager forward."""
    return _markdown(_forwards(folder, PAIRS[1]).seconds)


def _forwards(folder: Path, pair: tuple[str, str]) -> BenchReport:
    records = (r for r in _records(folder / BENCH, BenchRecord) if r.workload == "forward")
    turns = [(r, tuple(t for t in r.turns if t.contestant in pair)) for r in records]
    return compose_bench([r.model_copy(update={"turns": own}) for r, own in turns])


def _kill_table(folder: Path) -> str:
    """How many planted faults are caught, by stages and by logits, and what is the least caught."""
    has_effects = (folder / EFFECTS).exists()
    effects = _records(folder / EFFECTS, EffectRecord) if has_effects else []
    report = compose_faults(_records(folder / FAULTS, FaultRecord), effects)
    headlines = "\n".join(f"- {headline}" for headline in report.headlines)
    tables = filter(None, (report.rates, report.effects))
    return "\n\n".join((headlines, *map(_markdown, tables)))


def _architecture_table(folder: Path) -> str:
    """What became of every other architecture."""
    return _markdown(tabulate_briefly(_records(folder / ARCHITECTURES, ArchitectureRecord)))


def _audit_table(folder: Path) -> str:
    """Verdicts on every release, those alike in one row."""
    return _markdown(tabulate_verdicts(latest(_records(folder / AUDIT, AuditRecord))))


def _planned_table(_: Path) -> str:
    """Of no evidence: what the plan says of every size."""
    from validation.gpu_parity.planned import tabulate_planned

    return _markdown(tabulate_planned())


def _size_table(folder: Path) -> str:
    folders = (folder, folder.with_name("tiny-streamed"))
    return _markdown(tabulate_sizes(*(_records(each / RESULTS, Result) for each in folders)))


def _study_findings(folder: Path) -> str:
    study = load_study(folder.name.removeprefix(_STUDY))
    records = _records(folder / STUDY, StudyRecord)
    escaped = map(escape_markdown, study.compose(records).findings)
    return "\n".join(f"- {finding}" for finding in escaped)


def _fits_beside_unfitted(folder: Path) -> str:
    learned, encodings = (
        _records(folder.with_name(f"{_STUDY}{name}") / STUDY, StudyRecord)
        for name in ("learned", "encodings")
    )
    schemes = encodings_results.collect(each for each in encodings if "seed" in each.unit)[-1]
    said = say_beside_unfitted(learned_results.collect(learned), schemes, encodings_results.NAMES)
    return f"- {escape_markdown(said)}"


def _pins(folder: Path) -> str:
    return list_pins(get_base(folder.name.removeprefix("pins-")))


def _patch_table(folder: Path) -> str:
    return _markdown(tabulate_patches(get_base(folder.name.removeprefix("patches-"))))


def _distance_table(folder: Path) -> str:
    proofs = _records(folder.with_name("v3.9.0-smollm2") / STAGES, StageResult)
    return _markdown(tabulate_distances(proofs))


def _upstream_table(folder: Path) -> str:
    """Upstream's tests and tools on the release and on the fork."""
    summary = Summary.model_validate_json((folder / SUMMARY).read_bytes())
    return (
        f"{tabulate(summary)}\n\n"
        f"{count(len(summary.findings))} findings. Of the tests that the patches add "
        f"{count(summary.failing_on_base)} fail on the release's sources. "
        f"{count(sum(summary.excluded.values()))} tests cannot pass on the release here."
    )


def _markdown(table: Table) -> str:
    return markdown_environment().get_template("table.md.jinja").render(table=table).strip()


_TABLES: dict[str, Callable[[Path], str]] = {
    "v3.9.0-smollm2": _identity_table,
    "v2.8.0-smollm2": _floor_table,
    "v3.9.0-smollm2-ladder": _identity_table,
    "v3.9.0-smollm2-sdpa": _fused_table,
    "alarms": _alarm_table,
    "clients": _client_table,
    "faults": _kill_table,
    "faults-sdpa": _kill_table,
    "bench": _fused_bench_tables,
    "bench-eager": _eager_bench_table,
    "audit": _audit_table,
    "planned": _planned_table,
    "tiny-kept": _size_table,
    "pins-v3.9.0": _pins,
    "pins-v2.8.0": _pins,
    "pins-v4.3.0": _pins,
    "patches-v3.9.0": _patch_table,
    "patches-v2.8.0": _patch_table,
    "patches-v4.3.0": _patch_table,
    "float64": _distance_table,
    "architectures": _architecture_table,
    "upstream-v3.9.0": _upstream_table,
    "upstream-v2.8.0": _upstream_table,
    **{f"{_STUDY}{name}": _study_findings for name in STUDIES},
    "fits-beside-unfitted": _fits_beside_unfitted,
}
