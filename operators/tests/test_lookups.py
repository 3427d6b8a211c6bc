"""Lists of the admin and of the API answer no question that they don't declare, whoever asks."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.auth.models import User
from django.db.models import JSONField, Model
from django.test import Client, RequestFactory
from django.urls import reverse

from checks import dispatcher
from checks.models import Config
from checks.models.orders import Pin, Rule
from checks.tests.cast import report, sent
from operators.admin.base import DeclaredAdmin
from operators.roles import Role
from operators.tests.cast import having, user
from tests.table import table

pytestmark = pytest.mark.django_db

SECRET = "hunter2"
LOOKUPS = ("", "__exact", "__regex", "__iregex", "__startswith", "__contains", "__gt", "__lte", "__in", "__isnull")
JSON_PATHS = ("__0__password__startswith", "__has_key", "__a__b__gt")
ADMINS = list(admin.site._registry.values())
READ_BY_DJANGO = {"all", "o", "q", "p", "e", "_facets", "_popup", "_source_model", "_to_field"}


@pytest.fixture(autouse=True)
def _work(warm: None) -> None:
    report("ash")
    dispatcher.schedule([sent("shop", instances=(f"password: {SECRET}\n",))])


def staff(role: Role) -> User:
    name = f"{role}-otto"
    return User.objects.filter(username=name).first() or user(name, role, is_staff=True)


def client_of(role: Role) -> Client:
    client = Client()
    client.force_login(staff(role))
    return client


def paths(model: type[Model], depth: int = 2, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a model, and of what it is related to, as lookups name them."""
    for field in model._meta.get_fields():
        yield f"{before}{field.name}", field
        if (attname := getattr(field, "attname", field.name)) != field.name:
            yield f"{before}{attname}", field
        if field.is_relation and field.related_model and depth:
            yield from paths(field.related_model, depth - 1, f"{before}{field.name}__")  # type: ignore[arg-type]


def lookups(model: type[Model]) -> Iterator[str]:
    for path, field in paths(model):
        yield from (f"{path}{lookup}" for lookup in (LOOKUPS if "__" not in path else ("", "__regex")))
        if isinstance(field, JSONField):
            yield from (f"{path}{lookup}" for lookup in JSON_PATHS)
    yield from ("pk", "pk__gt", "nothing", "_changelist_filters", "drf__", "__", "AND", "_connector", "_negated")


def changelist(model_admin: Any, reader: User, **query: str) -> Any:
    request = RequestFactory().get("/", query)
    request.user = reader
    return model_admin.get_changelist_instance(request)


def declared(model_admin: Any, reader: User) -> set[str]:
    specs = changelist(model_admin, reader).filter_specs
    return {name for spec in specs for name in spec.expected_parameters()} | set(model_admin.linked)


@table("model_admin", ADMINS)
def test_no_list_filters_by_what_it_does_not_declare(model_admin: Any) -> None:
    reader = staff(Role.VIEWER)
    known = declared(model_admin, reader)
    answered = []
    for lookup in {*lookups(model_admin.model)} - known - READ_BY_DJANGO:
        try:
            changelist(model_admin, reader, **{lookup: SECRET})
            answered.append(lookup)
        except (DisallowedModelAdminLookup, IncorrectLookupParameters):
            pass
    assert not answered


@table("model_admin", ADMINS)
def test_what_lists_declare_are_whole_values(model_admin: Any) -> None:
    """No part of a value, no comparison, no other row's field."""
    for name in declared(model_admin, staff(Role.VIEWER)):
        field, _, lookup = name.partition("__")
        assert lookup in ("", "exact", "isnull", "id__exact"), name
        assert field not in ("original", "wire", "scrubbed", "text", "password", "digest"), name


@table("model_admin", ADMINS)
def test_every_admin_is_of_ours(model_admin: Any) -> None:
    assert isinstance(model_admin, DeclaredAdmin)
    fields = {field.name for field in model_admin.opts.get_fields()} | {"nothing"}
    request = RequestFactory().get("/")
    assert {name for name in fields if model_admin.to_field_allowed(request, name)} == {model_admin.opts.pk.name}


@table("model_admin", ADMINS)
def test_lists_are_sorted_only_by_columns_that_are_offered_for_it(model_admin: Any) -> None:
    reader = staff(Role.VIEWER)
    usual = changelist(model_admin, reader)
    offered = model_admin.get_sortable_by(RequestFactory().get("/"))
    for number, column in enumerate(usual.list_display):
        if column not in offered:
            for sign in "", "-":
                ordered = changelist(model_admin, reader, o=f"{sign}{number}").queryset.query.order_by
                assert set(ordered) <= {*usual.queryset.query.order_by, "-pk", "pk"}


@table("role", [Role.VIEWER, Role.OPERATOR])
@table(
    "query",
    [
        "id={config}&original__instances__0__regex=password: h",
        "original__instances__0__contains=hunter2",
        "wire__gt=a",
        "pin__author__startswith=o",
        "assignment__node__declared__regex=.",
        "_to_field=digest",
        "_to_field=original",
        "owner=assigned&scrubbed__contains=a",
        "_changelist_filters=original__contains%3Da",
        "_popup=1&original__contains=a",
        "_facets=1&original__contains=a",
    ],
)
def test_such_a_question_is_refused(role: Role, query: str) -> None:
    asked = f"/admin/checks/config/?{query.format(config=Config.objects.get().pk)}"
    assert client_of(role).get(asked).status_code == 400


def test_rows_are_found_by_their_keys_alone() -> None:
    client, config = client_of(Role.VIEWER), Config.objects.get()
    assert client.get(f"/admin/checks/config/{config.digest}/change/?_to_field=digest").status_code == 404
    assert client.get(f"/admin/checks/config/{config.pk}/change/?_to_field=digest").status_code == 400
    assert client.get(f"/admin/checks/config/{config.pk}/change/?_to_field=id").status_code == 200


def test_what_pages_link_to_is_answered() -> None:
    client, config = client_of(Role.VIEWER), Config.objects.get()
    moves = client.get(f"/admin/checks/move/?config_id={config.pk}")
    assert [move.config_id for move in moves.context["cl"].result_list] == [config.pk]
    assert not client.get(f"/admin/checks/move/?config_id={config.pk + 1}").context["cl"].result_list
    assert client.get("/admin/nodes/nodeevent/?node_name=ash").status_code == 200
    assert client.get("/admin/checks/move/?config_id=x").headers["Location"] == "/admin/checks/move/?e=1"


def _found(client: Client, model: str, word: str) -> int:
    response = client.get(f"/admin/checks/{model}/", {"q": word})
    assert response.status_code == 200
    return len(response.context["cl"].result_list)


def test_no_note_is_searched() -> None:
    Rule.objects.create(name="near", note=f"password: {SECRET}")
    for role in Role:
        client = client_of(role)
        assert (_found(client, "rule", SECRET[:3]), _found(client, "rule", "near")) == (0, 1)


def test_an_origins_key_is_searched_as_it_is_shown() -> None:
    key = f"postgres://u:{SECRET}@h/db"
    Pin.objects.create(source="admin", key=key, kind="node", aim="ash")
    for role in Role:
        client = client_of(role)
        assert _found(client, "pin", "ash") == 1
        assert _found(client, "pin", key) == _found(client, "pin", SECRET[:3]) == 0


def test_no_autocompletion_tells_what_others_may_not_see() -> None:
    client = client_of(Role.VIEWER)
    for model, field in (("knox.authtoken", "user"), ("auth.user", "groups"), ("checks.pin", "config")):
        app, name = model.split(".")
        query = {"app_label": app, "model_name": name, "field_name": field, "term": SECRET[:3]}
        answer = client.get("/admin/autocomplete/", query)
        assert answer.status_code == 403 or not answer.json()["results"]


@pytest.mark.parametrize(
    "model", ["configs", "nodes", "moves", "events", "pins", "pauses", "isolations", "rules", "node-rules", "plans"]
)
def test_lists_of_the_api_refuse_filters_that_there_are_not(model: str) -> None:
    caller = having(Role.VIEWER)
    for query in (
        "original__contains",
        "wire__regex",
        "ordering",
        "search",
        "note__startswith",
        "order_by",
        "digest__gt",
    ):
        assert caller.call("GET", f"{model}?{query}=a").status_code == 400, query


@table("model_admin", ADMINS)
def test_a_list_sorts_by_each_of_its_columns(admin_client: Client, model_admin: Any) -> None:
    name = f"admin:{model_admin.opts.app_label}_{model_admin.opts.model_name}_changelist"
    for number in range(len(model_admin.list_display) + 2):
        assert admin_client.get(reverse(name), {"o": f"-{number}"}).status_code == 200, number
