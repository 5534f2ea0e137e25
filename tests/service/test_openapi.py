"""The application against its own OpenAPI description, with what schemathesis draws from it."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from c2f_dgl.service import create_app
from tests.service.test_app import users_of
from tests.serving.coded import coded

SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", create_app(coded(), users_of(coded())))


@pytest.mark.slow
@SCHEMA.parametrize()
@settings(max_examples=200, deadline=None)
def test_every_answer_is_one_that_is_described(case: schemathesis.Case) -> None:
    # 3.0 is an integer to JSON Schema, and refused here.
    case.call_and_validate(excluded_checks=[positive_data_acceptance])
