"""`clusteragent nodetoken`: node tokens from a terminal."""

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from acts.models import Act
from nodes.models import NodeToken

pytestmark = pytest.mark.django_db

POOL = ("--note", "runners", "--nodes", "runner-*")


def run(*words: str) -> tuple[str, str]:
    """What the command writes: (standard output, standard error)."""
    out, err = io.StringIO(), io.StringIO()
    call_command("nodetoken", *words, "--as", "olga", stdout=out, stderr=err)
    return out.getvalue().strip(), err.getvalue().strip()


def test_a_new_token_is_all_that_standard_output_has() -> None:
    token, told = run("add", *POOL)
    row = NodeToken.objects.get()
    assert (row.key, row.author) == (token[:11], "olga")
    assert told == "It opens nodes runner-* until it is revoked. It is not shown again."


def test_all_that_bounds_a_token_can_be_given_and_is_told() -> None:
    run("add", *POOL, "--kubernetes-nodes", "ip-*", "--networks", "10.1.0.0/16,fd00::/8", "--until", "90d")
    row = NodeToken.objects.get()
    assert row.expires_at is not None
    assert timedelta(days=89) < row.expires_at - timezone.now() < timedelta(days=91)
    assert f"until {row.expires_at:%Y-%m-%d %H:%M}" in run("list")[0]
    row.expires_at = None
    row.save()
    listed = "runners: nodes runner-*, endpoint checks of ip-*, from 10.1.0.0/16,fd00::/8; never used"
    assert run("list")[0].splitlines()[0] == f"{row.key}…  {listed}"


def test_the_list_as_json_has_no_token() -> None:
    made = json.loads(run("add", *POOL, "--json")[0])
    token = made.pop("token")
    assert made["expires"] is None
    text = run("list", "--json")[0]
    assert json.loads(text)["tokens"] == [made | {"author": "olga", "last_used": None}]
    assert token[11:] not in text


def test_a_token_is_revoked_by_how_it_begins_on_record() -> None:
    token, _ = run("add", *POOL)
    other, _ = run("add", *POOL)
    assert run("revoke", token[:11])[0] == "1 node token revoked."
    assert [row.key for row in NodeToken.objects.all()] == [other[:11]]
    act = Act.objects.latest("pk")
    assert (act.verb, act.object, act.person) == ("delete", f"node token {token[:11]}… of runners", "olga")
    assert token[11:] not in str(list(Act.objects.values()))
    run("revoke", other)
    assert run("list")[0].splitlines()[0] == "There are no node tokens."


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("add",), "^add needs --note and --nodes$"),
        (("add", "--note", "runners"), "^add needs --nodes$"),
        (("add", "nt-00000000", *POOL), "^add takes no TOKEN$"),
        (("add", *POOL, "--networks", "10.1.0.0/99"), "^--networks: '10.1.0.0/99' does not .*give ranges such as"),
        (("add", *POOL, "--networks", "::ffff:10.1.0.0/112"), "^--networks: ::ffff:.* is of IPv4"),
        (("add", *POOL, "--networks", ""), "^--networks names none: leave it out"),
        (("add", *POOL, "--until", "soon"), "^--until soon: 90s, 30m"),
        (("add", *POOL, "--nodes", "x" * 254), "^--nodes: .*253"),
        (("add", *POOL, "--note", " x"), "^--note: printable characters"),
        (("list", "--note", "x"), "^list takes no --note$"),
        (("revoke",), "^revoke needs a TOKEN$"),
        (("revoke", "--kubernetes-nodes", "x"), "^revoke takes no --kubernetes-nodes$"),
        (("revoke", "nt-00000000"), "^no node token begins with nt-00000000$"),
        (("make",), "invalid choice"),
    ],
)
def test_what_can_not_be_is_one_line(words: tuple[str, ...], error: str) -> None:
    with pytest.raises(CommandError, match=error):
        run(*words)
    assert not NodeToken.objects.exists()
