"""No secret that stands anywhere in what is sent shows in any reply."""

from typing import Any

import pytest

from checks import dispatcher
from checks.models import Config
from checks.tests.cast import report, sent
from nodes.models import NodeEvent
from operators.roles import Role
from operators.tests.cast import Caller, having

pytestmark = pytest.mark.django_db

SECRET = "hunter22"
INSTANCE = f"""
url: https://user:{SECRET}@db/x?api_key={SECRET}&y=1
name: postgres://user:{SECRET}@db/x
password: {SECRET}
headers: {{Authorization: Bearer {SECRET}, X-Api-Key: {SECRET}, Cookie: a={SECRET}}}
command: [run, --password, {SECRET}, "--token={SECRET}"]
deep: [{{credentials: [{{a: {SECRET}}}]}}]
query: "host=db password='{SECRET}'"
jwt: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{SECRET}
pem: |
  -----BEGIN PRIVATE KEY-----
  {SECRET}
  -----END PRIVATE KEY-----
"""
FIELDS: dict[str, Any] = {
    "instances": (INSTANCE,),
    "init_config": f"proxy: {{https: 'http://u:{SECRET}@proxy'}}\npasswd: {SECRET}\n",
    "logs": f"logs:\n- type: tcp\n  token: {SECRET}\n",
    "metric_config": f"conf:\n- secret: {SECRET}\n",
}
KEY = f"https://user:{SECRET}@git/shop"


@pytest.fixture
def master(warm: None) -> Caller:
    report("ash")
    dispatcher.schedule([sent(KEY, **FIELDS)])
    dispatcher.pin([Config.objects.get().pk], "*", kind="pattern", note=f"password={SECRET}", actor="olga")
    NodeEvent.objects.create(node_name="ash", kind="silent", cause=f"password={SECRET}")
    return having(*Role)


def test_the_secrets_are_there(master: Caller) -> None:
    assert Config.objects.get().original["instances"][0].count(SECRET) >= 12


@pytest.mark.parametrize(
    "path", ["configs", "configs/{}", "nodes", "nodes/ash", "moves", "events", "sources", "pins", "plans"]
)
def test_no_list_or_page_shows_them(master: Caller, path: str) -> None:
    answer = master.call("GET", path.format(Config.objects.get().pk))
    assert answer.status_code == 200
    assert SECRET not in answer.content.decode()


def test_no_answer_to_a_change_shows_them(master: Caller) -> None:
    report("birch")
    answer = master.call("POST", f"configs/{Config.objects.get().pk}/reassign", {"node": "birch"})
    assert answer.json()["node"] == "birch"
    assert SECRET not in answer.content.decode()


@pytest.mark.parametrize(
    "config",
    [
        {"name": "a", "check": "c", "yaml": f"instances: [{{password: {SECRET}"},
        {"name": "a", "check": "c", "yaml": f"instances:\n- password: {SECRET}\n- password={SECRET}\n"},
        {"name": "a", "check": f"password={SECRET}", "yaml": "x"},
        {"name": KEY, "check": "c", "yaml": "x"},
        {"name": f"password={SECRET}\n", "check": "c", "yaml": "x"},
        {"name": "a", "check": "c", "instances": [f"password={SECRET}"]},
        f"password={SECRET}",
    ],
)
def test_no_problem_repeats_them(master: Caller, config: Any, caplog: pytest.LogCaptureFixture) -> None:
    answer = master.call("PUT", "sources/shop", {"configs": [config]})
    assert answer.status_code == 400
    assert SECRET not in answer.content.decode() + caplog.text


def test_no_difference_repeats_them(master: Caller, caplog: pytest.LogCaptureFixture) -> None:
    config = {"name": KEY, "check": "c", "yaml": "init_config:\ninstances: [" + "{password: " + SECRET + "}]"}
    answer = master.call("PUT", "sources/shop", {"configs": [config]})
    assert answer.status_code == 200
    assert SECRET not in answer.content.decode() + caplog.text


@pytest.mark.parametrize(
    "query",
    [
        f"configs?https://u:{SECRET}@x=1",
        f"configs?state=password={SECRET}",
        f"moves?since=token={SECRET}",
        f"nodes?type=https://u:{SECRET}@x",
    ],
)
def test_no_refused_filter_repeats_them(master: Caller, query: str) -> None:
    answer = master.call("GET", query)
    assert answer.status_code == 400
    assert SECRET not in answer.content.decode()
