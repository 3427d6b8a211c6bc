"""The API's description of itself: it is true, and no call that it allows is a fault of ours."""

import json
import re
from typing import Any
from urllib.parse import urlencode

import pytest
import schemathesis
from django.contrib.staticfiles import finders
from django.db import transaction
from django.test import Client
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from checks import dispatcher
from checks.models import Config
from checks.tests.cast import report, sent
from nodes.models import NodeToken
from operators.roles import Role
from operators.tests.cast import Caller, having, user

pytestmark = pytest.mark.django_db

DESCRIBED: Any = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
SCHEMA = schemathesis.openapi.from_dict(DESCRIBED)
OPERATIONS = [result.ok() for result in SCHEMA.get_all_operations()]


@pytest.fixture
def master(warm: None) -> Caller:
    """Someone who may do everything."""
    report("ash", "birch")
    dispatcher.schedule([sent(f"c{number}") for number in range(5)])
    NodeToken.objects.create(key="nt-00000000", digest=b"", note="old", pattern="old-*")
    return having(*Role)


def made(case: Any, caller: Caller) -> Any:
    """The answer to a generated call. A fault of ours is raised here."""
    told = case.as_transport_kwargs(base_url="http://testserver")
    body = {"data": json.dumps(told["json"]), "content_type": "application/json"} if "json" in told else {}
    url = f"{told['url']}?{urlencode(told.get('params') or {}, doseq=True)}"
    return caller.client.generic(told["method"], url, headers=caller.headers, **body)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_no_call_that_the_schema_allows_is_a_fault_of_ours(master: Caller, operation: Any) -> None:
    first = Config.objects.earliest("pk")

    @settings(max_examples=15, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(case=operation.as_strategy(), known=st.booleans())
    def call(case: Any, known: bool) -> None:
        if known and case.path_parameters:
            case.path_parameters = {"name": "ash", "id": first.pk, "key": "nt-00000000"}
        # Of a failed statement the transaction of the test would not recover; and each example begins as the first.
        before = transaction.savepoint()
        try:
            answer = made(case, master)
        finally:
            transaction.savepoint_rollback(before)
        assert answer.status_code < 500, answer.text

    call()


def test_the_page_is_for_those_who_are_logged_in_and_asks_no_other_host() -> None:
    client = Client()
    assert client.get("/api/operator/v1/docs")["Location"].startswith("/admin/login/?next=")
    client.force_login(user("otto", Role.VIEWER, is_staff=True))
    page = client.get("/api/operator/v1/docs").content.decode()
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    # The way back in, once the session is over.
    assets = [one for one in named if not one.startswith("/admin/login/?next=")]
    assert len(assets) >= 3
    assert all(finders.find(asset.removeprefix("/static/")) for asset in assets)
    assert "://" not in page
    assert '"validatorUrl": null' in page
    assert "/api/operator/v1/schema" in page


def test_a_path_that_leads_nowhere_says_where_to_look() -> None:
    answer = Client().get("/api/operator/v1/config")
    assert answer.status_code == 404
    assert "schema/" in answer.json()["detail"]


def test_the_end_of_an_order_is_described_as_a_time_or_a_span() -> None:
    for name, field in (("Pause", "until"), ("DrainWish", "by")):
        described = DESCRIBED["components"]["schemas"][name]["properties"][field]
        assert described["nullable"]
        time, span = described["anyOf"]
        assert time == {"type": "string", "format": "date-time"}
        assert [bool(re.search(span["pattern"], text)) for text in ("10m", "90 s", "10x", "x10m")] == [
            True,
            True,
            False,
            False,
        ]


def test_the_schema_leaves_nothing_to_guess() -> None:
    GENERATOR_STATS.reset()
    with GENERATOR_STATS.silence():
        schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    validate_schema(schema)
    assert not GENERATOR_STATS
