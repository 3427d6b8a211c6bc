"""Commands that change something name the person who ran them."""

from typing import Any

import pytest
from django.core.management import CommandError, call_command

from acts.models import Act
from checks.management import commandline
from checks.models.freezes import Freeze

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


@pytest.mark.parametrize(
    ("sudo", "words", "person"),
    [("", (), "runner"), ("eve", (), "eve"), ("eve", ("--as", "olga"), "olga")],
)
def test_the_person_is_who_is_named_else_sudo_s_user_else_the_account(
    monkeypatch: pytest.MonkeyPatch, sudo: str, words: Any, person: str
) -> None:
    monkeypatch.setenv("SUDO_USER", sudo)
    monkeypatch.setattr(commandline, "_account", lambda: "runner")
    call_command("freeze", *words)
    assert Freeze.objects.get().author == f"{person} (command line)"
    found = Act.objects.get()
    assert (found.person, found.address.partition(" on ")[0]) == (person, "runner")


@pytest.mark.parametrize("name", ["a" * 151, "olga\nadmin", " ", ""])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(CommandError, match="--as"):
        call_command("freeze", "--as", name)
    assert not Freeze.objects.exists()
