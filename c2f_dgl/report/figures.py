"""The charts of a page: which curves and points of the runs go into which, for runs on the same data."""

from __future__ import annotations

from dataclasses import dataclass

from c2f_dgl.report.charts import LARGE, Chart, Curve, Point, chart, thinned
from c2f_dgl.report.collect import RunReport
from c2f_dgl.report.references import Reference, references_for

_CURVES = (
    ("ndcg@20", "Validation NDCG@20"),
    ("recall@20", "Validation recall@20"),
    ("loss", "Training loss"),
)


@dataclass(frozen=True)
class Group:
    """Runs on the same data, which can be compared.

    Parameters
    ----------
    data : str
        Its name.
    runs : list of (number on the page, RunReport)
    references : list of Reference
    charts : list of Chart
        Accuracy against size.
    curves : list of (stage, list of Chart)
        Figures against epochs.
    tiers : list of Chart
        Use of each tier's codebook.
    training : list of Chart
        Sparsity and churn against epochs.
    missing : list of str
        Why some of these are not there.
    unsized : bool
        Whether some reference has no size.
    """

    data: str
    runs: list[tuple[int, RunReport]]
    references: list[Reference]
    charts: list[Chart]
    curves: list[tuple[str, list[Chart]]]
    tiers: list[Chart]
    training: list[Chart]
    missing: list[str]
    unsized: bool

    @property
    def test_metrics(self) -> list[str]:
        """Metrics that some run was tested on."""
        return list(dict.fromkeys(key for _, run in self.runs for stage in run.stages for key in stage.test))


def group_runs(runs: list[tuple[int, RunReport]]) -> Group:
    """Everything that compares `runs`, given with their numbers on the page."""
    references = references_for(runs[0][1].config.data)
    stages = list(dict.fromkeys(stage.name for _, run in runs for stage in run.stages))
    curves = [(stage, [c for key, title in _CURVES if (c := _curve(runs, stage, key, title))]) for stage in stages]
    tiers = list(dict.fromkeys(tier.name for _, run in runs for tier in run.tiers))
    training = [
        c
        for key, title in (("sparsity", "sparsity of the codebook"), ("churn", "assignment churn"))
        for stage in stages
        if (c := _curve(runs, stage, key, f"{stage}: {title}", from_zero=True))
    ]
    return Group(
        runs[0][1].data,
        runs,
        references,
        [c for key in ("values", "bytes") if (c := _size_chart(runs, references, key))],
        curves,
        [c for tier in tiers if (c := _usage_chart(runs, tier))],
        training,
        _missing(runs),
        any(reference.values is None for reference in references),
    )


def _missing(runs: list[tuple[int, RunReport]]) -> list[str]:
    """Why a chart that one may look for is not there."""
    records = [record for _, run in runs for record in run.records]
    said = []
    if any(tier.sparsity is not None for _, run in runs for tier in run.tiers) and not any(
        "sparsity" in record for record in records
    ):
        said.append("Sparsity was not recorded per epoch; the table has that of the best checkpoint.")
    if not any("churn" in record for record in records):
        said.append("No assignment was updated during training, so there is no churn to show.")
    return said


def _size_chart(runs: list[tuple[int, RunReport]], references: list[Reference], key: str) -> Chart | None:
    """Test NDCG@20 against learned values or bytes; references whose size is not known are left to the table."""
    points, rules = [], []
    for number, reference in enumerate(references):
        size, y = getattr(reference, key), reference.metrics["ndcg@20"]
        if size is not None:
            title = f"{reference.name}: {_amount(size, key)}, NDCG@20 {y:.4f}"
            points.append(Point(size, y, title, "reference", reference_letter(number)))
        elif reference.values is None:
            rules.append((y, reference_letter(number)))
    for number, run in runs:
        for stage in sorted(run.stages, key=lambda stage: stage.name != run.chosen):
            size = stage.values["total"] if key == "values" else stage.bytes
            if not stage.test:
                continue
            y = stage.test["ndcg@20"]
            title = f"{run.name}, {stage.name}: {_amount(size, key)}, NDCG@20 {y:.4f}"
            points.append(
                Point(size, y, title, f"run r{number} {'' if stage.name == run.chosen else 'hollow'}", symbol=number)
            )
    title = "Test NDCG@20 against learned values" if key == "values" else "Test NDCG@20 against bytes"
    return chart(
        title, "learned values" if key == "values" else "bytes", points=points, rules=rules, size=LARGE, log_x=True
    )


def _amount(size: float, key: str) -> str:
    return f"{size:,} values" if key == "values" else format_size(size)


def _curve(
    runs: list[tuple[int, RunReport]], stage: str, key: str, title: str, *, from_zero: bool = False
) -> Chart | None:
    """One figure of the records of a stage against epochs; the updating phase is dashed, its churn is marked."""
    curves, points = [], []
    for number, run in runs:
        phases: dict[str, list[tuple[float, float]]] = {"fixed": [], "updating": []}
        last: tuple[float, float] | None = None
        for record in (record for record in run.records if record["stage"] == stage):
            value = record.get("valid", {}).get(key) if "@" in key else record.get(key)
            if value is None:
                continue
            at = (record["epoch"], value)
            line = phases["updating" if record["phase"] == "updating" else "fixed"]
            if record["phase"] == "updating" and not line and last is not None and key != "churn":
                line.append(last)
            line.append(at)
            last = at
        curves += [Curve(line, f"r{number} {phase}") for phase, line in phases.items()]
        drawn = [at for line in phases.values() for at in line]
        best = next((s.epoch for s in run.stages if s.name == stage), None)
        for x, y in thinned(drawn, 60):
            small = "small" if len(drawn) > 1 else "run"
            points.append(Point(x, y, f"{run.name}, epoch {x}: {y:.4g}", f"{small} r{number}", symbol=number))
        if "@" in key:
            points += [
                Point(x, y, f"{run.name}, best at epoch {x}: {y:.4g}", f"run r{number}", symbol=number)
                for x, y in dict.fromkeys(drawn)
                if x == best
            ]
    return chart(title, "epoch", curves=curves, points=points, whole_x=True, from_zero=from_zero)


def _usage_chart(runs: list[tuple[int, RunReport]], tier: str) -> Chart | None:
    """Rows above that use each atom, from the most to the least used."""
    curves, points = [], []
    for number, run in runs:
        for report in run.tiers:
            if report.name == tier:
                counts = sorted(report.counts.tolist(), reverse=True)
                share = 100 / max(len(counts) - 1, 1)
                ranked = [(i * share, float(count)) for i, count in enumerate(counts)]
                curves.append(Curve(ranked, f"r{number} fixed"))
                points += [
                    Point(x, y, f"{run.name}: {y:,.0f} uses at {x:.0f} %", f"small r{number}", symbol=number)
                    for x, y in thinned(ranked, 6)
                ]
    return chart(
        f"{tier}: uses of each meta-embedding",
        "% of the codebook, most used first",
        curves=curves,
        points=points,
        from_zero=True,
    )


def reference_letter(number: int) -> str:
    """What stands for a reference in charts."""
    return chr(ord("A") + number)


def format_size(size: float) -> str:
    """Bytes in the unit that suits."""
    for unit in ("B", "kB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} MB"
