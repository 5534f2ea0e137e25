"""What is said of the paper is what the computations show."""

from __future__ import annotations

import pytest

from benchmarks.errata import ERRATA, SHOWN


@pytest.mark.parametrize("place", [place for place in ERRATA if place != "Eq. 18 and 19"])  # that one trains
def test_errata_are_as_recorded(place: str) -> None:
    recorded = dict(line.split(": ", 1) for line in SHOWN.read_text().splitlines())
    assert ERRATA[place]() == recorded[place]


def test_every_erratum_is_recorded() -> None:
    assert [line.split(": ", 1)[0] for line in SHOWN.read_text().splitlines()] == list(ERRATA)
