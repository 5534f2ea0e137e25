"""The report's measured figures are those of the bench's committed records."""

from __future__ import annotations

import pytest

from benchmarks.measure import RESULTS
from c2f_dgl.bench.table import read_results
from c2f_dgl.config.schema import DataConfig
from c2f_dgl.report.collect import references_for


@pytest.mark.parametrize(("data", "folder"), [("gowalla", "gowalla-anchors"), ("lastfm", "lastfm")])
def test_measured_references_are_those_of_the_bench(data: str, folder: str) -> None:
    rows = {row.title: row for row in read_results(RESULTS / "bench" / folder / "results.json").rows}
    measured = [one for one in references_for(DataConfig(source=data)) if one.kind == "measured"]
    assert measured
    for reference in measured:
        row = rows[reference.name]
        assert row.seeds == [2024, 2025, 2026] and "2024 to 2026" in reference.source
        assert (reference.values, reference.bytes) == (row.values, row.bytes)
        assert reference.metrics == pytest.approx({name: row.test[name] for name in reference.metrics}, abs=5e-5)
