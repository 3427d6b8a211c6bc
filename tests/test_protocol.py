"""The protocol's rules of tokens, paths, methods and statuses, tested on a running server with a node agent's calls."""

import json
from concurrent.futures import ThreadPoolExecutor
from http.client import IncompleteRead

import psycopg
import pytest
from django.db import connection

from checks.tests.balance import furnish
from clusteragent.lib import conf
from nodes.models import Heartbeat, Node
from tests.map import register, store, store_many
from tests.table import table
from tests.webserver import AGENT, LOCAL, Answer, WebServer, database_url

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]

STATUS = "/api/v1/clusterchecks/status/ash"
CONFIGS = "/api/v1/clusterchecks/configs/ash"
ENDPOINTS = "/api/v1/endpointschecks/configs/ash"
AGENTS_ROUTES = [("GET", "/version"), ("POST", STATUS), ("GET", CONFIGS), ("GET", ENDPOINTS)]
LOCAL_ROUTES = [
    ("GET", "/api/v1/clusterchecks"),
    ("GET", "/api/v1/endpointschecks/configs"),
    ("POST", "/api/v1/clusterchecks/rebalance"),
    ("POST", "/api/v1/clusterchecks/isolate/check/ntp:1f"),
]
UNKNOWN_PATHS = [
    "/",
    "/nope",
    "/api/v1/nope",
    "/api/v1/clusterchecks/",
    "/version/",
    "/api/v2/clusterchecks",
    "/admin/",
]


def alias(path: str) -> str:
    return path.replace("/api/v1/", "/v1/api/")


def is_error(answer: Answer, status: int, text: str) -> bool:
    """Return whether the answer is this error in the protocol's format, one line of plain text."""
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    return (answer.status, answer.body) == (status, f"{text}\n")


@table(("method", "path"), [*AGENTS_ROUTES, *LOCAL_ROUTES, ("GET", "/nope")])
@table(
    ("authorization", "status", "text"),
    [
        (None, 401, "no session token provided"),
        ("", 401, "no session token provided"),
        ("bearer x", 401, "unsupported authorization scheme: bearer"),
        (f"Basic {conf.AUTH_TOKEN}", 401, "unsupported authorization scheme: Basic"),
        (conf.AUTH_TOKEN, 401, f"unsupported authorization scheme: {conf.AUTH_TOKEN}"),
        ("Bearer", 403, "invalid session token"),
        ("Bearer ", 403, "invalid session token"),
        (f"Bearer {conf.AUTH_TOKEN[:-1]}", 403, "invalid session token"),
        (f"Bearer  {conf.AUTH_TOKEN}", 403, "invalid session token"),
        (f"{AGENT} more", 403, "invalid session token"),
    ],
)
def test_without_a_token_that_opens_it_no_path_tells_anything(
    web: WebServer, method: str, path: str, authorization: str | None, status: int, text: str
) -> None:
    answer = web.call(method, path, token=authorization)
    assert is_error(answer, status, text)
    assert answer.headers.get("WWW-Authenticate") == ('Bearer realm="Datadog Agent"' if status == 401 else None)


@pytest.mark.parametrize(("token", "routes"), [(LOCAL, AGENTS_ROUTES), (AGENT, LOCAL_ROUTES)], ids=["local", "agents"])
def test_no_token_opens_the_other_kind_of_route_and_nothing_runs(
    web: WebServer, warm: None, token: str, routes: list[tuple[str, str]]
) -> None:
    for method, path in routes:
        for spelled in (path, alias(path), f"/{path}", f"{path}?x=/"):
            assert is_error(web.call(method, spelled, b"{}", token=token), 403, "invalid session token")
    assert not Node.objects.exists()


@pytest.mark.parametrize(("method", "path"), AGENTS_ROUTES + LOCAL_ROUTES)
def test_routes_answer_under_both_prefixes_with_more_slashes_and_with_a_query(
    web: WebServer, warm: None, method: str, path: str
) -> None:
    register("ash")
    token = LOCAL if (method, path) in LOCAL_ROUTES else AGENT
    for spelled in (path, alias(path), f"/{path}", f"///{alias(path)}", f"{path}?x=/", f"{path}?x=/y/z"):
        answer = web.call(method, spelled, b"{}" if method == "POST" else None, token=token)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"


@table("token", [AGENT, LOCAL])
@table("path", [*UNKNOWN_PATHS, f"{STATUS}/", f"{CONFIGS}/", "/api/v1//clusterchecks", "/healthz/"])
def test_an_unknown_path_is_a_404_and_never_a_redirect(web: WebServer, path: str, token: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert is_error(web.call(method, path, token=token), 404, "404 page not found")


def test_local_calls_balance_and_isolate(web: WebServer, warm: None) -> None:
    furnish(ash=[0.4, 0.4], birch=[])
    moves = json.loads(web.call("POST", "/api/v1/clusterchecks/rebalance", b"{}", token=LOCAL).body)
    assert [(move["source_node_name"], move["dest_node_name"]) for move in moves] == [("ash", "birch")]
    path = f"/api/v1/clusterchecks/isolate/check/{moves[0]['check_id']}"
    answer = json.loads(web.call("POST", path, token=LOCAL).body)
    assert (answer["check_node"], answer["is_isolated"]) == ("birch", True)
    assert json.loads(web.call("POST", "/api/v1/clusterchecks/rebalance", b"{}", token=LOCAL).body) == []


@pytest.mark.parametrize(("method", "path"), AGENTS_ROUTES + LOCAL_ROUTES)
def test_a_wrong_method_is_a_405_that_names_the_right_one(web: WebServer, method: str, path: str) -> None:
    token = LOCAL if (method, path) in LOCAL_ROUTES else AGENT
    for wrong in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "ODD"} - {method}:
        answer = web.call(wrong, path, token=token)
        assert is_error(answer, 405, "Method Not Allowed")
        assert answer.headers["Allow"] == method
    assert web.call("HEAD", path, token=token).status == 405
    assert is_error(web.call("PUT", path, token=None), 401, "no session token provided")


def test_version_is_that_of_the_recorded_server(web: WebServer) -> None:
    assert web.call("GET", "/version").body == '{"Major":7,"Minor":63,"Patch":0,"Pre":"","Meta":"","Commit":""}'


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "EOF"),
        (" \n", "EOF"),
        ("hello", "invalid JSON: Expecting value at character 1"),
        ("[]", "a status is a JSON object, not an array"),
        ('"0"', "a status is a JSON object, not a string"),
        (
            '{"last_change":1.5}',
            "last_change is 1.5, allowed is an integer from -9223372036854775808 to 9223372036854775807",
        ),
        ('{"node_type":256}', "node_type is 256, allowed is an integer from 0 to 255"),
        (b'{"last_change":"\xff"}', "invalid JSON: not UTF-8"),
        ("[" * 500_000, "invalid JSON: nested too deeply"),
        ("x" * 1_000_000, "invalid JSON: Expecting value at character 1"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_body_that_is_no_status_is_a_500_that_says_why_and_changes_nothing(
    web: WebServer, warm: None, body: bytes | str, text: str
) -> None:
    assert is_error(web.call("POST", STATUS, body), 500, text)
    assert not Node.objects.exists()


@pytest.mark.parametrize(
    "content_type", [None, "text/html", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_status_is_json_whatever_its_content_type_says(web: WebServer, warm: None, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    assert web.call("POST", STATUS, '{"last_change":5}', headers=headers).body == '{"isuptodate":false}'


def test_a_body_of_a_megabyte_is_read(web: WebServer, warm: None) -> None:
    body = '{"last_change":0,"x":"' + "x" * 1024 * 1024 + '"}'
    assert web.call("POST", STATUS, body).body == '{"isuptodate":true}'


def test_a_body_of_many_megabytes_is_refused_before_it_is_read(web: WebServer) -> None:
    caller = web.connect()
    caller.putrequest("POST", STATUS)
    for header, value in {"Authorization": AGENT, "Content-Length": "3000000"}.items():
        caller.putheader(header, value)
    caller.endheaders()
    response = caller.getresponse()
    assert (response.status, response.read()) == (413, b"the body is too large\n")
    caller.close()


@pytest.mark.parametrize(
    "name",
    ["a%00b", "a%0Ab", "a%7F", "a%E2%80%8Bb", "a%C2%A0b", "..", ".", "%2E%2E", "x" * 254],
    ids=lambda name: name[:12],
)
def test_a_bad_name_is_a_400_that_says_why_and_changes_nothing(web: WebServer, warm: None, name: str) -> None:
    long = "a node's name has 1 to 253 characters"
    odd = "a node's name is one path segment of printable characters"
    text = long if len(name) > 253 else odd
    assert is_error(web.call("POST", f"/api/v1/clusterchecks/status/{name}", "{}"), 400, text)
    assert is_error(web.call("GET", f"/api/v1/clusterchecks/configs/{name}"), 400, text)
    assert is_error(web.call("GET", f"/api/v1/endpointschecks/configs/{name}"), 400, text)
    assert not Node.objects.exists()


@pytest.mark.parametrize(
    ("path", "name"),
    [("a%20b", "a b"), ("%C3%A4%E2%82%AC", "ä€"), ("a;b=c", "a;b=c"), ("%25", "%"), ("y" * 253, "y" * 253)],
)
def test_a_name_is_the_decoded_path_segment(web: WebServer, warm: None, path: str, name: str) -> None:
    assert web.call("POST", f"/api/v1/clusterchecks/status/{path}", "{}").status == 200
    assert web.call("GET", f"/api/v1/clusterchecks/configs/{path}").status == 200
    assert Node.objects.get().name == name


def test_a_name_that_is_no_utf_8_is_a_400(web: WebServer, warm: None) -> None:
    for path in ("%FF", "a%C0%AE", "%ED%A0%80"):
        assert is_error(web.call("POST", f"/api/v1/clusterchecks/status/{path}", "{}"), 400, "a node's name is UTF-8")
        assert is_error(web.call("GET", f"/api/v1/endpointschecks/configs/{path}"), 400, "a node's name is UTF-8")
    assert not Node.objects.exists()


def test_a_slash_in_a_name_leads_nowhere(web: WebServer) -> None:
    assert is_error(web.call("POST", "/api/v1/clusterchecks/status/a%2Fb", "{}"), 404, "404 page not found")


@pytest.mark.parametrize(
    "address", ["[::1]", "fe80::1%eth0", "10.0.0.1:5005", "010.0.0.1", "10.0.0", "ash", "10.0.0.1, 10.0.0.2", "1"]
)
def test_a_client_address_that_is_none_is_a_500_that_names_it(web: WebServer, warm: None, address: str) -> None:
    answer = web.call("POST", STATUS, "{}", headers={"X-Real-Ip": address})
    assert is_error(answer, 500, f"cannot parse CLC runner address: {address}")
    assert not Node.objects.exists()


def test_the_client_address_is_kept_until_another_comes(web: WebServer, warm: None) -> None:
    kept = []
    for address in ("", "10.0.0.1", "", "::ffff:10.0.0.2", "2001:db8::1"):
        assert web.call("POST", STATUS, "{}", headers={"X-Real-Ip": address}).status == 200
        kept.append(Heartbeat.objects.get().client_ip)
    assert kept == [None, "10.0.0.1", "10.0.0.1", "10.0.0.2", "2001:db8::1"]


def test_a_heartbeat_is_up_to_date_by_equality_alone(web: WebServer, warm: None) -> None:
    version = 2**63 - 1
    register("ash", version)
    answers = {
        last_change: json.loads(web.call("POST", STATUS, f'{{"last_change":{last_change},"node_type":1}}').body)
        for last_change in (version, version - 1, 0, -1, -2)
    }
    assert [answer["isuptodate"] for answer in answers.values()] == [True, False, False, True, False]
    assert Heartbeat.objects.get().node_type == 1


def test_in_the_warm_up_everyone_is_up_to_date_and_gets_no_configs(web: WebServer) -> None:
    assert web.call("POST", STATUS, '{"last_change":1795398561280915668}').body == '{"isuptodate":true}'
    warming_up = "warming up: nothing is dispatched yet"
    assert is_error(web.call("GET", CONFIGS), 503, warming_up)
    assert is_error(web.call("GET", ENDPOINTS), 503, warming_up)
    assert is_error(web.call("GET", "/api/v1/endpointschecks/configs", token=LOCAL), 503, warming_up)
    assert json.loads(web.call("GET", "/api/v1/clusterchecks", token=LOCAL).body)["warmup"] is True


def test_an_unknown_node_and_a_lost_one_are_a_500_for_configs_and_an_empty_list_for_endpoints(
    web: WebServer, warm: None
) -> None:
    Node.objects.create(name="birch")
    for name in ("ash", "birch"):
        assert is_error(web.call("GET", f"/api/v1/clusterchecks/configs/{name}"), 500, f"node {name} is unknown")
        assert web.call("GET", f"/api/v1/endpointschecks/configs/{name}").body == '{"last_change":0,"configs":[]}'


def test_what_is_served_are_the_stored_bytes(web: WebServer, warm: None) -> None:
    odd = '{"b":1.0,  "a":"\\u00e4ä€","a":null}'
    store(odd, owner=register("ash", 7))
    store(odd, node_name="ash")
    assert web.call("GET", CONFIGS).body == f'{{"last_change":7,"configs":[{odd}]}}'
    assert web.call("GET", ENDPOINTS).body == f'{{"last_change":0,"configs":[{odd}]}}'
    state = web.call("GET", "/api/v1/clusterchecks", token=LOCAL).body
    assert f'{{"instance_ids":[],"config":{odd}}}' in state


def test_health_needs_no_token(web: WebServer) -> None:
    for path in ("/healthz", "/readyz", "//healthz"):
        answer = web.call("GET", path, token=None)
        assert (answer.status, answer.body) == (200, "ok\n")


def test_an_unexpected_error_is_one_line_and_its_traceback_is_logged(web: WebServer, warm: None) -> None:
    register("ash")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE nodes_heartbeat ADD CONSTRAINT broken CHECK (acknowledged < 100)")
        try:
            answer = web.call("POST", STATUS, '{"last_change":100}')
        finally:
            cursor.execute("ALTER TABLE nodes_heartbeat DROP CONSTRAINT broken")
    assert is_error(answer, 500, "internal error")
    assert "request_failed" in web.log()
    assert "CheckViolation" in web.log()
    assert conf.AUTH_TOKEN not in web.log()
    assert web.call("POST", STATUS, "{}").status == 200


def test_the_state_breaks_off_when_its_database_connection_does(web: WebServer, warm: None) -> None:
    store_many(600, b'"' + b"x" * 200_000 + b'"', owner=register("ash"))
    caller = web.connect()
    # A thread makes the answer to its end as fast as it can, so whoever breaks it off must be ready.
    with psycopg.connect(database_url(), autocommit=True) as other:
        caller.request("GET", "/api/v1/clusterchecks", headers={"Authorization": LOCAL})
        response = caller.getresponse()
        assert response.status == 200
        begin = response.read(1000)
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'clusteragent agents'"
        )
    try:
        rest = response.read()
    except IncompleteRead as error:
        rest = error.partial
    caller.close()
    with pytest.raises(json.JSONDecodeError):
        json.loads(begin + rest)
    again = web.call("GET", "/api/v1/clusterchecks", token=LOCAL)
    assert json.loads(again.body)["nodes"][0]["name"] == "ash"


def test_many_agents_at_once_each_get_their_own_answer(web: WebServer, warm: None) -> None:
    names = [f"node-{number}" for number in range(40)]

    def agent(name: str) -> bool:
        known = web.call("POST", f"/api/v1/clusterchecks/status/{name}", '{"last_change":0}')
        configs = web.call("GET", f"/api/v1/clusterchecks/configs/{name}")
        return known.body == '{"isuptodate":true}' and configs.body == '{"last_change":0,"configs":[]}'

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(agent, names))
    assert set(Node.objects.known().values_list("name", flat=True)) == set(names)
