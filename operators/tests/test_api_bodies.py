"""Bodies that are large, odd or hostile: what is promised is taken, and every refusal is JSON with its status."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from threading import Thread
from typing import Any

import pytest
import yaml
from django.contrib.auth.models import User
from django.core.files.uploadhandler import FileUploadHandler
from django.db import DataError, InterfaceError
from django.test import Client

from checks import dispatcher
from checks.models import Config
from checks.sources import sets
from checks.tests.cast import sent
from clusteragent.lib import conf
from operators.api import desired, parsers, sources
from operators.api.sources import SourceViewSet
from operators.errors import FAILED
from operators.roles import Role
from operators.tests.cast import API, Caller, having, user
from tests.replicas import wait_for
from tests.table import table

pytestmark = pytest.mark.django_db

MIB = 1024 * 1024


@pytest.fixture
def author() -> Caller:
    return having(Role.AUTHOR, Role.OPERATOR)


def refused(answer: Any, status: int) -> Any:
    """What a refusal says."""
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/json"), answer.content
    return answer.json()


def put(caller: Caller, body: bytes | str, source: str = "shop", **headers: str) -> Any:
    return caller.call("PUT", f"sources/{source}", body, **headers)


def config(name: str, text: str) -> dict[str, str]:
    return {"name": name, "check": "http_check", "yaml": f"instances:\n- text: {text}\n"}


def test_a_set_may_have_as_many_bytes_as_the_manual_says(author: Caller) -> None:
    most = SourceViewSet.most_bytes
    assert most == 32 * MIB
    body = json.dumps({"configs": [config("a", "x")]})
    assert put(author, body.ljust(most)).json()["added"] == ["a"]
    assert refused(put(author, body.ljust(most + 1)), 413) == {
        "detail": f"The body has {most + 1} bytes, at most {most} are read here."
    }


@pytest.mark.parametrize("path", ["pins", "plans", "rules"])
def test_other_bodies_are_smaller(author: Caller, path: str) -> None:
    refused(author.call("POST", path, "[" + " " * MIB), 413)


def test_a_body_that_says_less_than_it_has_is_read_as_far_as_it_may() -> None:
    assert parsers.read(BytesIO(b"[1]"), 0, 3) == [1]
    with pytest.raises(parsers.TooLarge):
        parsers.read(BytesIO(b"[1 ]"), 0, 3)


@pytest.mark.parametrize("value", ["{}", "[]", "1", '""', "null"])
def test_small_values_are_counted_since_each_takes_memory(
    author: Caller, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setattr(parsers, "MOST_VALUES", 1000)
    assert refused(put(author, f"[{','.join([value] * 1001)}]"), 413)["detail"] == "The body has more than 1000 values."


@pytest.mark.parametrize(
    "instance",
    [
        f"a: {'[' * 45}{','.join('1' * 5000)}{']' * 45}",
        f"a: &a {'x' * 1000}\n  b: [{','.join(['*a'] * 500)}]",
    ],
)
def test_what_grows_on_its_way_to_node_agents_is_bounded(
    author: Caller, monkeypatch: pytest.MonkeyPatch, instance: str
) -> None:
    monkeypatch.setattr(desired, "MOST_OF_SMALL", 2 * MIB)
    configs = [config(f"c{number}", f"x\n  {instance}") for number in range(20)]
    body = json.dumps({"configs": configs})
    assert len(body) < 300_000
    assert "for node agents" in refused(put(author, body), 413)["detail"]
    assert put(author, json.dumps({"configs": configs[:1]})).status_code == 200


def test_shards_count_with_what_each_repeats(author: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desired, "MOST_OF_SMALL", MIB)
    shop = {"name": "a", "check": "http_check", "instances": [{}] * 100, "init_config": {"a": "x" * 20_000}}
    assert put(author, json.dumps({"configs": [shop]})).status_code == 200
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    refused(put(author, json.dumps({"configs": [shop]})), 413)


def test_texts_may_have_any_number_of_commas(author: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsers, "MOST_VALUES", 100)
    assert put(author, json.dumps({"configs": [config("a", '"' + ',[{\\"' * 1000 + '"')]})).status_code == 200


@table(
    ("body", "problem"),
    [
        ("", "configs"),
        ("{", "JSON parse error - Expecting"),
        ('{"configs": [}', "JSON parse error - Expecting value: line 1 column 14"),
        ('{"configs": [NaN]}', "JSON parse error - NaN is no value"),
        ('{"configs": [Infinity]}', "Infinity is no value"),
        (f'{{"configs": [{"9" * 5000}]}}', "JSON parse error - Exceeds the limit"),
        (b'{"configs": ["\xff"]}', "The body is not UTF-8, from byte 14 on."),
        ('{"configs": []}'.encode("utf-16"), "The body is not UTF-8, from byte 0 on."),
        ('{"configs": []}'.encode("utf-32"), "The body is not UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"\x1f\x8b\x08\x00", "The body is not UTF-8"),
        ("[" * 100_000, "too deep"),
        ('{"a":' * 100_000, "too deep"),
        ('{"configs": [{"name": "a\\u0000"}]}', "configs.0.name holds a NUL"),
        ('{"configs": [{"name": "a\\uD800"}]}', "configs.0.name holds a NUL character, or half of a surrogate pair."),
        ('{"configs": [{"\\udfff": 1}]}', "A key of configs.0 holds"),
        ('{"configs": [], "revision": "\\ud83d"}', "revision holds"),
        ('"\\u0000"', "The body holds"),
        ('{"configs": [{"name": "a\0"}]}', "Invalid control character"),
        ("[]", "non_field_errors"),
        ("7", "non_field_errors"),
        ("null", ""),
    ],
)  # fmt: skip
def test_what_cant_be_read_is_refused_with_its_place(author: Caller, body: bytes | str, problem: str) -> None:
    assert problem in json.dumps(refused(put(author, body), 400))
    assert not Config.objects.exists()


@pytest.mark.parametrize("depth", [60, 500, 900])
def test_what_nests_deeply_is_refused_at_its_field(author: Caller, depth: int) -> None:
    instance = '{"a":' * depth + "1" + "}" * depth
    body = f'{{"configs": [{{"name": "a", "check": "b", "instances": [{instance}]}}]}}'
    assert "deep" in json.dumps(refused(put(author, body), 400))


def test_a_whole_surrogate_pair_and_an_escaped_backslash_are_texts(author: Caller) -> None:
    body = '{"configs": [{"name": "a", "check": "b", "instances": [{"c": "\\ud83d\\ude00 \\\\u0000"}]}]}'
    assert put(author, body).status_code == 200
    assert yaml.safe_load(Config.objects.get().original["instances"][0]) == {"c": "😀 \\u0000"}


@table(
    ("method", "path", "status"),
    [
        ("GET", "/api/", 404),
        ("GET", "/api/operator/v2/configs", 404),
        ("GET", f"{API}/nothing", 404),
        ("POST", f"{API}/nothing", 404),
        ("POST", "/api/nothing", 404),
        ("GET", f"{API}/configs/999999999999999999", 404),
        ("GET", f"{API}/nodes/%00", 404),
        ("GET", f"{API}/nodes/%ff", 404),
        ("GET", f"{API}/configs?cursor=x", 404),
        ("GET", f"{API}/configs?format=xml", 404),
        ("PATCH", f"{API}/sources/shop", 405),
        ("DELETE", f"{API}/sources/shop", 403),
        ("POST", f"{API}/configs", 405),
        ("TRACE", f"{API}/configs", 405),
        ("OPTIONS", f"{API}/configs", 405),
        ("POST", f"{API}/schema", 405),
        ("GET", f"{API}/schema", 401),
    ],
)
def test_what_is_not_there_is_refused_in_json(author: Caller, method: str, path: str, status: int) -> None:
    client = Client(enforce_csrf_checks=True)
    refused(client.generic(method, path, headers=author.headers if status != 401 else {}), status)


def test_another_host_is_refused_in_json(author: Caller) -> None:
    refused(author.call("GET", "configs", Host="elsewhere.example.org"), 400)
    refused(author.call("PUT", "sources/shop", "{}", Host="elsewhere.example.org"), 400)


class Written(FileUploadHandler):
    """Notes that a file would be stored."""

    files: list[str] = []

    def new_file(self, field_name: str, file_name: str, *args: Any, **kwargs: Any) -> None:
        self.files.append(file_name)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None: ...

    def file_complete(self, file_size: int) -> None: ...


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    "content", ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "text/plain"]
)
def test_no_other_kind_of_body_is_read(settings: Any, author: Caller, method: str, content: str) -> None:
    """By its token, by a session with the CSRF token, and by one without."""
    settings.FILE_UPLOAD_HANDLERS = [f"{__name__}.Written"]
    Written.files = []
    file = '--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n'
    body = f"{file}{'c' * 3 * MIB}\r\n--x--\r\n".encode()
    path = f"{API}/sources/shop" if method == "PUT" else f"{API}/pins"
    session = Client(enforce_csrf_checks=True)
    session.force_login(user("olga", Role.AUTHOR, Role.OPERATOR))
    session.cookies[settings.CSRF_COOKIE_NAME] = "a" * 32
    refused(author.client.generic(method, path, body, content, headers=author.headers), 415)
    refused(session.generic(method, path, body, content, headers={"X-CSRFToken": "a" * 32}), 415)
    refused(session.generic(method, path, body, content), 403 if method == "PUT" else 415)
    assert Written.files == []


def test_who_may_not_write_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsers, "read", None)
    refused(put(having(Role.VIEWER), "["), 403)
    refused(put(Caller({}), "["), 401)


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (RuntimeError("password=hunter22"), 500, FAILED),
        (RecursionError(), 500, FAILED),
        (InterfaceError("the connection is closed"), 503, "The database is away"),
        (DataError("hunter22 is out of range"), 400, "A value can't be stored"),
    ],
)
def test_what_fails_here_is_told_in_json_and_the_log(
    author: Caller, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, told: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(sets, "replace", fail)
    answer = put(author, '{"configs": []}')
    assert told in refused(answer, status)["detail"]
    assert ("Retry-After" in answer) == (status == 503)


def test_what_fails_before_the_api_is_told_in_json_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the sessions' table can't be read."""
    monkeypatch.setattr("whitenoise.middleware.WhiteNoiseMiddleware.__call__", None)
    client = Client(raise_request_exception=False)
    assert refused(client.get(f"{API}/configs"), 500) == {"detail": FAILED}
    assert client.get("/admin/")["Content-Type"].startswith("text/html")


def test_large_sets_take_turns_and_small_ones_others(author: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "WAIT", 0)
    small = json.dumps({"configs": [config("a", "x")]})
    with taken(sources._large_sets):
        refused(put(author, json.dumps({"configs": [config("a", "x" * 600_000), config("b", "x" * 600_000)]})), 503)
        refused(put(author, json.dumps({"configs": [config(f"a{n}", "x") for n in range(sources.MANY + 1)]})), 503)
        assert put(author, small).status_code == 200
    with taken(sources._small_sets):
        assert "4 other sets are being read" in refused(put(author, small), 503)["detail"]
    assert put(author, small).status_code == 200


def test_nobody_has_two_places(author: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "WAIT", 0)
    small = json.dumps({"configs": [config("a", "x")]})
    with taken(sources._small_sets, User.objects.get(auth_token_set__isnull=False).pk):
        refused(put(author, small), 503)
        with taken(sources._large_sets, -1):
            large = json.dumps({"configs": [config(f"a{n}", "x") for n in range(sources.MANY + 1)]})
            assert author.call("PUT", "sources/shop?dry_run=1", large).status_code == 200


def test_few_calls_of_a_user_wait_by_however_many_tokens() -> None:
    places = sources.Places(2)
    found: list[bool] = []
    with taken(places, 1):
        waiting = [Thread(target=lambda: found.append(places.take(1, 60))) for _ in range(sources.MOST_WAITING)]
        for one in waiting:
            one.start()
        wait_for("they wait", lambda: places._waiting[1] == sources.MOST_WAITING)
        assert not places.take(1, 60), "at once"
        assert places.take(2, 0), "others don't wait for that"
        places.leave(2)
    wait_for("the first has it", lambda: found == [True])
    places.leave(1)
    for one in waiting:
        one.join()
    assert found == [True, True]


@contextmanager
def taken(places: sources.Places, *users: int) -> Iterator[None]:
    """A block in which these users have places; without users all are taken by others."""
    users = users or tuple(range(-places.most, 0))
    for one in users:
        assert places.take(one, 0)
    try:
        yield
    finally:
        for one in users:
            places.leave(one)


@pytest.mark.parametrize("ids", ["[99999999999999999999]", "[-1]", '["x"]', "[1e400]", "[true]", "{}", "[[]]"])
def test_numbers_that_are_no_ids_are_refused_in_json(author: Caller, ids: str) -> None:
    dispatcher.schedule([sent("a")])
    refused(author.call("POST", "pins", f'{{"configs": {ids}, "aim": "ash"}}'), 400)
    refused(author.call("POST", "rules", f'{{"name": "r", "check_pattern": "a", "max_per_node": {ids}}}'), 400)
