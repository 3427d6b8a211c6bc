"""`clusteragent migrate`: the schema, the first operator, and a database that does not answer yet."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from clusteragent.lib import conf

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def var(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(conf, "VAR", tmp_path / "var")
    return tmp_path / "var"


def test_the_first_operator_has_the_password_that_was_given(var: Path) -> None:
    var.mkdir()
    (var / "admin_password").write_text("given beforehand\n")
    call_command("migrate")
    assert User.objects.get().check_password("given beforehand")
    assert User.objects.get().is_superuser


def test_without_one_a_password_is_made(var: Path) -> None:
    call_command("migrate")
    assert User.objects.get().check_password((var / "admin_password").read_text().strip())


def test_where_there_are_operators_no_other_is_made() -> None:
    User.objects.create_user("ida")
    call_command("migrate")
    assert [user.username for user in User.objects.all()] == ["ida"]


@pytest.mark.parametrize("options", [["checks"], ["--plan"], ["--check"], ["--fake"]])
def test_who_asks_for_something_else_gets_no_operator(options: list[str]) -> None:
    call_command("migrate", *options)
    assert not User.objects.exists()


def test_a_folder_that_can_t_be_made_is_named(var: Path) -> None:
    var.write_text("")
    with pytest.raises(CommandError, match=f"{var}.* can't be made or read"):
        call_command("migrate")


def test_it_waits_for_the_database_if_told(monkeypatch: pytest.MonkeyPatch) -> None:
    connect, tries = connection.ensure_connection, []

    def late() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("starting up")
        connect()

    monkeypatch.setattr(connection, "ensure_connection", late)
    with pytest.raises(CommandError, match="starting up"):
        call_command("migrate")
    tries.clear()
    call_command("migrate", "--wait", "60")
    assert User.objects.exists()
