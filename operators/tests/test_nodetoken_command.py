"""`clusteragent nodetoken`: node tokens from a terminal."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from acts.models import Act
from checks.tests.cast import report
from nodes.models import Node, NodeToken, Runner
from nodes.models.runners import Answer
from nodes.models.tokens import digest

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
    assert made.pop("without_stats") == []
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
        (("add", *POOL, "--until", "soon"), "^--until soon: That is neither a span nor a time: 90s, 30m"),
        (("add", *POOL, "--nodes", "x" * 254), "^--nodes: .*253"),
        (("add", *POOL, "--note", " x"), "^--note: printable characters"),
        (("list", "--note", "x"), "^list takes no --note$"),
        (("revoke",), "^revoke needs a TOKEN$"),
        (("revoke", "--kubernetes-nodes", "x"), "^revoke takes no --kubernetes-nodes$"),
        (("revoke", "nt-00000000"), "^no node token begins with nt-00000000$"),
        (("make",), "invalid choice"),
        (("set", *POOL), "^set needs --token-file$"),
        (("set", "--token-file", "x"), "^set needs --note and --nodes$"),
        (("set", *POOL, "--token-file", "/nowhere"), "^--token-file /nowhere: No such file or directory$"),
        (("set", *POOL, "--token-file", "/dev/null"), "^--token-file /dev/null: it has no token"),
        (("set", *POOL, "--token-file", __file__, "--until", "90d"), "^--until 90d: set takes a time, as 2027"),
        (
            ("set", *POOL, "--token-file", __file__, "--until", "2001-01-01"),
            "^--until 2001-01-01: That is over already",
        ),
        (("add", *POOL, "--token-file", "x"), "^add takes no --token-file$"),
    ],
)
def test_what_can_not_be_is_one_line(words: tuple[str, ...], error: str) -> None:
    with pytest.raises(CommandError, match=error):
        run(*words)
    assert not NodeToken.objects.exists()


def telling(*names: str) -> None:
    """Runners of these names, which tell stats by the shared token."""
    for name in names:
        report(name)
        Runner.objects.note({Node.objects.get(name=name).pk: Answer([])})


LOST = (
    "2 runners that tell stats by the shared token are not asked by it any more: runner-1 and runner-2. The load there is"
    " estimated until they have this token, and the leader has it, too (CLUSTERAGENT_RUNNER_TOKENS)."
)


def test_runners_that_a_new_token_cuts_off_are_named_before_and_then() -> None:
    telling("runner-1", "runner-2", "other")
    assert run("add", *POOL, "--dry-run")[0].splitlines() == [
        "A node token would be made for runners: nodes runner-*",
        LOST,
        "Whoever has it gets the configs, with their secrets, of the nodes whose names fit runner-*.",
        "It opens from every address.",
        "It never ends.",
    ]
    assert json.loads(run("add", *POOL, "--dry-run", "--json")[0])["without_stats"] == ["runner-1", "runner-2"]
    _, said = run("add", *POOL)
    assert said == f"It opens nodes runner-* until it is revoked. It is not shown again. {LOST}"
    assert Act.objects.latest("pk").about == {"nodes": ["runner-1", "runner-2"]}
    # They are cut off already.
    assert run("add", *POOL)[1] == "It opens nodes runner-* until it is revoked. It is not shown again."


def test_so_are_those_of_declared_tokens_only_once(tmp_path: Path) -> None:
    telling("runner-1", "runner-2")
    assert set_to(tmp_path / "tokens", FIRST, "--dry-run").splitlines()[1:] == [LOST]
    assert set_to(tmp_path / "tokens", FIRST) == f"1 node token stored. 0 node tokens revoked. {LOST}"
    for words in (("--dry-run",), ()):
        assert LOST not in set_to(tmp_path / "tokens", SECOND, *words)


FIRST, SECOND = f"nt-{'1' * 64}", f"nt-{'2' * 64}"


def set_to(file: Path, text: str, *words: str) -> str:
    file.write_text(text)
    return run("set", *POOL, "--token-file", str(file), *words)[0]


def keys() -> list[str]:
    return sorted(NodeToken.objects.values_list("key", flat=True))


def test_tokens_that_were_made_elsewhere_are_those_of_their_note(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    run("add", "--note", "others", "--nodes", "*")
    [other] = keys()
    assert set_to(file, f"{FIRST}\n") == "1 node token stored. 0 node tokens revoked."
    row = NodeToken.objects.get(key=FIRST[:11])
    assert (bytes(row.digest), row.pattern, row.author) == (digest(FIRST), "runner-*", "olga")
    acts = Act.objects.count()
    assert set_to(file, FIRST) == "0 node tokens stored. 0 node tokens revoked."
    assert Act.objects.count() == acts
    assert NodeToken.objects.get(key=FIRST[:11]).pk == row.pk
    assert set_to(file, f"{SECOND} {FIRST}") == "1 node token stored. 0 node tokens revoked."
    told = json.loads(set_to(file, SECOND, "--json"))
    assert told == {"tokens": [SECOND[:11]], "done": "0 node tokens stored. 1 node token revoked."}
    assert keys() == sorted([SECOND[:11], other])


def test_a_token_that_opens_something_else_now_is_stored_anew(tmp_path: Path) -> None:
    set_to(tmp_path / "tokens", FIRST)
    set_to(tmp_path / "tokens", FIRST, "--networks", "10.1.0.0/16")
    assert NodeToken.objects.get().networks == "10.1.0.0/16"


def test_declared_tokens_end_when_the_file_says_and_that_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    set_to(file, FIRST, "--until", "2099-12-24 08:00")
    row = NodeToken.objects.get()
    assert row.expires_at == datetime(2099, 12, 24, 8, tzinfo=UTC)
    assert set_to(file, FIRST, "--until", "2099-12-24T10:00+02:00") == "0 node tokens stored. 0 node tokens revoked."
    assert NodeToken.objects.get().pk == row.pk
    assert set_to(file, FIRST) == "1 node token stored. 1 node token revoked."
    assert NodeToken.objects.get().expires_at is None


def test_what_is_no_token_or_another_pools_is_refused_and_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    set_to(file, FIRST)
    with pytest.raises(CommandError, match=r"^A token is nt- and 64 digits .*; one of 6 characters") as refused:
        set_to(file, f"{SECOND} secret")
    assert "secret" not in str(refused.value)
    assert keys() == [FIRST[:11]]
    file.write_text(FIRST)
    with pytest.raises(CommandError, match=f"^node token {FIRST[:11]}… of runners is there already"):
        run("set", "--note", "others", "--nodes", "*", "--token-file", str(file))
