"""Internals of libraries: those that `docs/internals.md` lists are still as the program needs them, and no others are used."""

import ast
import asyncio
import inspect
import re
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import Transport

import httpx
import psycopg
import pytest
import unfold
import yaml
from django.contrib import admin
from django.contrib.admin.views import main
from django.contrib.auth.models import Group, User
from django.core import signals
from django.core.handlers.wsgi import WSGIHandler
from django.db import close_old_connections, connection, connections, models, reset_queries, transaction
from django.db.backends.postgresql import base as plain
from django.db.migrations.executor import MigrationExecutor
from django.db.models.fields.related_lookups import RelatedIn
from django.db.models.lookups import In
from django.http import HttpResponse
from django.template import Context
from django.template.loader import render_to_string
from django.test import RequestFactory
from django.test.html import parse_html
from django.utils.log import log_response
from django_q.brokers import orm
from django_q.conf import Conf
from django_q.signing import SignedPackage
from knox.auth import TokenAuthentication
from knox.models import AbstractAuthToken
from rest_framework.exceptions import AuthenticationFailed
from supervisor.xmlrpc import SupervisorTransport
from unfold.templatetags.unfold import header_title
from unfold.templatetags.unfold_list import result_list
from unfold.views import ChangeList

from checks import dispatcher
from checks.models import Assignment, Config, Move, Source
from checks.tests.cast import report, sent
from checks.tests.operators import superuser
from checks.wire import goyaml
from clusteragent.front import Handler
from clusteragent.lib import database
from clusteragent.lib.database import base, online
from clusteragent.worker import Broker
from nodes.models import Node, NodeEvent
from operators.admin import changelists as ours
from operators.admin.base import WithoutTransaction, list_url

HERE = Path(__file__).parent
ROOMS = ("clusteragent", "operators", "nodes", "checks", "simulation")
NOT_CODE = {"tests", "migrations"}
LISTED = re.compile(r"^\| ([\w-]+: .+?) \|", re.MULTILINE)
# Documented, whatever their names; and of named tuples and enums.
PUBLIC = {"_meta", "_state", "_base_manager", "_default_manager", "_replace", "_asdict", "_fields", "_exit"}

TESTS: dict[str, Callable[..., Any]] = {}


def of(internal: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The test of one row of the list."""

    def note(test: Callable[..., Any]) -> Callable[..., Any]:
        TESTS[internal] = test
        return test

    return note


def takes_what_the_original_takes(override: Any, original: Any) -> bool:
    """Return whether our override accepts every call that the original accepts."""
    have, want = (inspect.signature(one).parameters for one in (override, original))
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in have.values())
    return list(have) == list(want) or (takes_any and set(have) - {"kwargs", "_"} <= set(want))


def assigned(method: Any) -> set[str]:
    """Return the attributes of `self` that a method sets."""
    return set(re.findall(r"self\.(\w+)(?: = |, self\.)", inspect.getsource(method).replace(" = self.", " = ,self.")))


def test_the_list_and_the_tests_are_the_same() -> None:
    rows = LISTED.findall((HERE.parent / "docs" / "internals.md").read_text())
    assert rows
    assert [row.replace("`", "") for row in rows] == list(TESTS)


def private_names() -> Iterator[tuple[str, str]]:
    """Return each use of another package's private attribute, with its place."""
    files = [file for room in ROOMS for file in (HERE.parent / room).rglob("*.py")]
    code = {file: list(ast.walk(ast.parse(file.read_text()))) for file in files if not NOT_CODE & set(file.parts)}
    own = PUBLIC | {name for nodes in code.values() for node in nodes if (name := _defined(node))}
    for file, nodes in code.items():
        for node in nodes:
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr) and node.attr not in own:
                yield node.attr, f"{file.relative_to(HERE.parent)}:{node.lineno}"


def _defined(node: ast.AST) -> str:
    """Return the name that this node defines in a module, class or object."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return node.id
    is_of_self = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    return node.attr if is_of_self and isinstance(node.ctx, ast.Store) else ""


def test_no_other_private_name_is_used() -> None:
    listed = (HERE.parent / "docs" / "internals.md").read_text()
    assert not [(name, place) for name, place in private_names() if f"{name}`" not in listed]


@of("psycopg: Connection.wait")
@pytest.mark.django_db
def test_every_statement_waits_by_our_method(monkeypatch: pytest.MonkeyPatch) -> None:
    assert takes_what_the_original_takes(base.Connection.wait, psycopg.Connection.wait)
    waited: list[float | None] = []
    wait = psycopg.Connection.wait

    def noted(self: Any, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        waited.append(timeout)
        return wait(self, gen, interval, timeout)

    monkeypatch.setattr(psycopg.Connection, "wait", noted)
    with database.limited(5), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.execute("SELECT %s", [1])
        with transaction.atomic():
            pass
    assert len(waited) >= 4
    assert all(timeout is not None and 4 < timeout <= 5 for timeout in waited)


@of("Django: DatabaseWrapper.get_new_connection")
@pytest.mark.django_db(transaction=True)
def test_a_connection_of_ours_is_one_of_django_s() -> None:
    original = plain.DatabaseWrapper.get_new_connection
    assert takes_what_the_original_takes(base.DatabaseWrapper.get_new_connection, original)
    source = inspect.getsource(original.__wrapped__ if hasattr(original, "__wrapped__") else original)
    # What it sets, of itself and of the connection; the rest is for psycopg 2.
    assert set(re.findall(r"(?:self|connection)\.(\w+) = ", source)) == {"isolation_level"}
    theirs = plain.DatabaseWrapper(connection.settings_dict)
    theirs.connect()
    connection.ensure_connection()
    try:
        for read in (
            lambda one: one.connection.cursor_factory,
            lambda one: one.connection.autocommit,
            lambda one: one.isolation_level,
            lambda one: type(one.connection.adapters),
            lambda one: one.connection.info.timezone,
        ):
            assert read(theirs) == read(connection)
    finally:
        theirs.close()


@of("Django: DatabaseWrapper.get_connection_params")
@pytest.mark.django_db
def test_sessions_of_our_own_connect_as_django_does() -> None:
    parameters = connection.get_connection_params()
    with psycopg.connect(**parameters) as session, connection.cursor() as cursor:
        names = ("database", "user", "statement_timeout", "clusteragent.mark")
        asked = "SELECT current_database(), current_user, " + ", ".join(
            f"current_setting('{one}')" for one in names[2:]
        )
        cursor.execute(asked)
        assert session.execute(asked).fetchone() == cursor.fetchone()


@of("Django: del connections[alias]")
@pytest.mark.django_db(transaction=True)
def test_what_was_left_within_an_atomic_block_is_forgotten() -> None:
    connection.ensure_connection()
    left = connections["default"]
    transaction.atomic().__enter__()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    database.leave_clean()
    assert connections["default"] is not left
    assert not connection.in_atomic_block
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


@of("Django: close_old_connections, reset_queries")
def test_what_looks_at_connections_around_each_call_is_what_we_take_away() -> None:
    for signal, receivers in (
        (signals.request_started, {close_old_connections, reset_queries}),
        (signals.request_finished, {close_old_connections}),
    ):
        found = [one for one in receivers if signal.disconnect(one)]
        for one in found:
            signal.connect(one)
        assert set(found) == receivers


@of("Django: MigrationExecutor.migration_plan")
@pytest.mark.django_db
def test_a_plan_names_what_is_missing() -> None:
    executor = MigrationExecutor(connection)
    assert executor.migration_plan(executor.loader.graph.leaf_nodes()) == []
    executor.loader.applied_migrations = {}
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    assert {"nodes", "checks"} <= {migration.app_label for migration, backwards in plan if not backwards}


@of("Django: In, RelatedIn")
@pytest.mark.django_db
def test_many_values_are_one_array() -> None:
    for lookup, field in ((In, models.Field), (RelatedIn, models.ForeignObject)):
        assert field.get_lookups()["in"] is not lookup
        assert issubclass(field.get_lookups()["in"], lookup)
        assert takes_what_the_original_takes(field.get_lookups()["in"].as_sql, lookup.as_sql)
    for rows in (Config.objects.filter(pk__in=range(50)), Assignment.objects.filter(config__in=list(range(50)))):
        statement, values = rows.query.sql_with_params()
        assert "= ANY(%s::bigint[])" in statement
        assert len(values) == 1
        assert not list(rows)


@of("Django: AddIndexConcurrently.database_forwards")
def test_an_index_is_built_by_what_we_override() -> None:
    original = online.AddIndexConcurrently.database_forwards
    assert takes_what_the_original_takes(online.AddIndexOnline.database_forwards, original)
    assert "concurrently=True" in inspect.getsource(original)


@of("Django: ChangeList.get_results")
def test_a_list_sets_all_that_django_s_own_sets() -> None:
    assert takes_what_the_original_takes(ours.UncountedChangeList.get_results, main.ChangeList.get_results)
    wanted = assigned(main.ChangeList.get_results)
    assert {"result_list", "multi_page"} <= wanted
    assert wanted <= assigned(ours.UncountedChangeList.get_results)


@of("Django: ChangeList.get_filters, get_ordering, get_ordering_field")
@pytest.mark.django_db
def test_filters_tell_what_no_filter_took(admin_user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("get_filters", "get_ordering", "get_ordering_field"):
        assert takes_what_the_original_takes(getattr(ours.DeclaredChangeList, name), getattr(main.ChangeList, name))
    request = RequestFactory().get("/", {"name": "ash"})
    request.user = admin_user
    monkeypatch.setattr(ours.DeclaredChangeList, "get_filters", main.ChangeList.get_filters)
    changes = admin.site._registry[Node].get_changelist_instance(request)
    found = changes.get_filters(request)
    assert len(found) == 5
    assert set(found[2]) == {"name"}


@of("Django: ModelAdmin._changeform_view, _delete_view")
def test_a_form_is_the_same_without_its_transaction() -> None:
    for name in ("changeform_view", "delete_view"):
        original = getattr(admin.ModelAdmin, name)
        private = getattr(admin.ModelAdmin, f"_{name}")
        assert takes_what_the_original_takes(getattr(WithoutTransaction, name), original)
        assert len(inspect.signature(private).parameters) == len(inspect.signature(original).parameters)
        assert f"return self._{name}(" in inspect.getsource(original)


@of("Django: HttpResponse._has_been_logged")
def test_what_was_logged_is_not_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    fresh, logged = HttpResponse(status=400), HttpResponse(status=400)
    logged._has_been_logged = True  # type: ignore[attr-defined]
    for response in (fresh, logged):
        log_response("refused", response=response, request=RequestFactory().get("/"))
    assert caplog.messages.count("refused") <= 1
    assert "_has_been_logged" in inspect.getsource(log_response)


@of("Django: WSGIHandler.get_response")
def test_the_handler_returns_django_s_response(settings: Any) -> None:
    assert takes_what_the_original_takes(Handler.get_response, WSGIHandler.get_response)
    settings.MIDDLEWARE = []
    environ = RequestFactory()._base_environ(PATH_INFO="/healthz")
    response = Handler()(environ, lambda *_: None)
    assert isinstance(response, HttpResponse)
    assert environ["clusteragent.request"].path == "/healthz"


@of("django-q2: orm.ORM, SignedPackage, Conf.RETRY")
def test_a_worker_s_tasks_come_by_our_broker() -> None:
    for name in ("get_connection", "dequeue"):
        assert takes_what_the_original_takes(getattr(Broker, name), getattr(orm.ORM, name))
    assert "get_connection(" in inspect.getsource(orm.ORM.dequeue)
    assert SignedPackage.loads(SignedPackage.dumps({"func": "a", "args": (1,)})) == {"func": "a", "args": (1,)}
    assert isinstance(Conf.RETRY, int)


@of("knox: TokenAuthentication.authenticate_credentials")
@pytest.mark.django_db
def test_a_token_that_is_none_is_refused_by_what_we_override() -> None:
    with pytest.raises(AuthenticationFailed):
        TokenAuthentication().authenticate_credentials(b"x" * 64)
    assert "self.authenticate_credentials(" in inspect.getsource(TokenAuthentication.authenticate)
    assert "inactive" in inspect.getsource(TokenAuthentication.validate_user)


@of("unfold: ChangeList")
def test_unfold_s_list_is_django_s() -> None:
    assert issubclass(ChangeList, main.ChangeList)
    assert not {"get_results", "get_ordering_field"} & set(vars(ChangeList))


@of("unfold: items_for_result, result_headers, change_list_results.html")
@pytest.mark.usefixtures("warm")
def test_rows_are_as_unfold_makes_them() -> None:
    report("ash", "<b>irch", "cedar")
    Node.objects.filter(name="cedar").cordon()
    dispatcher.schedule([sent("a"), sent("b", instances=("url: http://b\ntags:\n- team:a&b\n",)), sent("c")])
    client = superuser()
    for model in (Node, Config, Move, NodeEvent, User, Group, Source):
        page = client.get(list_url(model))
        theirs = render_to_string(
            "admin/change_list_results.html", result_list({"request": page.wsgi_request}, page.context["cl"])
        )
        assert page.context["cl"].result_list
        [ours] = re.findall(r'<div class="[^"]*" data-simplebar.*?</table>\s*</div>', page.content.decode(), re.DOTALL)
        # But for the mark of what is not there, for why a column is not sorted by, and for which end of it comes first.
        ours = re.sub('<span title="Not sorted by this: [^"]*">([^<]*)</span>', r"\1", ours.replace(" is-empty", ""))
        ours, theirs = (re.sub(r"\?o=-?(\d)", r"?o=\1", rows) for rows in (ours, theirs))
        assert parse_html(ours) == parse_html(theirs)


@of("unfold: header_title.html")
def test_a_heading_has_what_ours_shows() -> None:
    theirs = (Path(unfold.__file__).parent / "templates/unfold/helpers/header_title.html").read_text()
    assert "{% for part in parts %}" in theirs
    assert set(re.findall(r"part\.(\w+)", theirs)) == {"title", "link"}
    request = RequestFactory().get("/")
    context = Context(
        {"request": request, "opts": Config._meta, "original": Config(pk=1, name="http_check", digest="a")}
    )
    context.request = request  # type: ignore[attr-defined]
    heading = header_title(context)
    assert ">Configs<" in heading
    assert ">http_check " in heading


@of("unfold: site_icon.html")
def test_a_sign_has_what_ours_shows() -> None:
    theirs = (Path(unfold.__file__).parent / "templates/unfold/helpers/site_icon.html").read_text()
    assert {"{{ site_symbol }}", "{{ branding }}", "{{ site_subheader }}"} <= set(re.findall(r"{{ \w+ }}", theirs))


@of("knox: AuthToken.__str__")
def test_a_token_s_own_name_is_its_hash() -> None:
    assert "self.digest" in inspect.getsource(AbstractAuthToken.__str__)


@of("supervisor: SupervisorTransport")
def test_a_process_manager_is_asked_over_a_socket() -> None:
    assert issubclass(SupervisorTransport, Transport)
    transport = SupervisorTransport("name", "secret", "unix:///run/socket")
    assert transport._get_connection().socketfile == "/run/socket"


@of("argparse: ArgumentParser._actions")
def test_an_option_can_be_hidden_after_it_was_added() -> None:
    parser = ArgumentParser()
    parser.add_argument("--traceback")
    [option] = (action for action in parser._actions if action.dest == "traceback")
    option.help = SUPPRESS
    assert "--traceback" not in parser.format_help()
    assert parser.parse_args(["--traceback", "all"]).traceback == "all"


@of("PyYAML: Resolver.resolve, descend_resolver, ascend_resolver")
def test_a_serializer_asks_our_resolver() -> None:
    for name in ("resolve", "descend_resolver", "ascend_resolver"):
        assert callable(getattr(yaml.resolver.BaseResolver, name))
        assert f"self.{name}(" in inspect.getsource(yaml.serializer.Serializer)
    assert issubclass(goyaml._Dumper, yaml.resolver.BaseResolver | yaml.serializer.Serializer)


@of("httpcore: connection.connect_tcp.complete")
def test_a_request_is_told_of_the_connection_that_is_opened_for_it() -> None:
    told: dict[str, Any] = {}

    async def trace(event: str, about: dict[str, Any]) -> None:
        told[event] = about.get("return_value")

    async def ask() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.HTTPError):
                await client.get(url, extensions={"trace": trace})

    asyncio.run(ask())
    assert inspect.iscoroutinefunction(told["connection.connect_tcp.complete"].aclose)
