"""Wrong passwords are counted, told and locked out, and nobody can lock everybody out."""

import io
import threading
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.test import Client

from acts.models import Act
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from operators import hashing, lockout
from operators.hashing import HashingSlots, TooBusy
from operators.models import WINDOW, FailedLogins
from operators.roles import Role
from operators.tests.cast import bearer, user
from tests.replicas import wait_for

pytestmark = pytest.mark.django_db

LOGIN = "/admin/login/"
RIGHT = "correct horse battery"


@pytest.fixture(autouse=True)
def hashed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The passwords that were hashed since the users were made. Quickly: how long it takes is not what is tested."""
    found: list[str] = []

    def encode(self: Any, password: str, salt: str, iterations: int | None = None) -> str:
        found.append(password)
        return f"pbkdf2_sha256$1${salt}${password}"

    monkeypatch.setattr(PBKDF2PasswordHasher, "encode", encode)
    monkeypatch.setattr(PBKDF2PasswordHasher, "must_update", lambda *_: False)
    for name in ("admin", "olga"):
        User.objects.create_superuser(name, password=RIGHT)
    found.clear()
    return found


def enter(client: Client, password: str = "wrong", name: str = "admin", address: str = "192.0.2.1", **meta: str) -> Any:
    return client.post(LOGIN, {"username": name, "password": password}, REMOTE_ADDR=address, **meta)


def fail(times: int, **how: Any) -> Any:
    """Fail so often, and return the last answer."""
    return [enter(Client(), **how) for _ in range(times)][-1]


def gets_in(client: Client, **how: Any) -> bool:
    return bool(enter(client, RIGHT, **how).status_code == 302)


def test_ten_failures_lock_a_name_out_from_where_they_came(hashed: list[str], caplog: pytest.LogCaptureFixture) -> None:
    last = fail(lockout.MOST_OF_PAIR)
    assert (last.status_code, len(hashed)) == (200, lockout.MOST_OF_PAIR)
    refused = enter(Client(), RIGHT)
    assert refused.status_code == 429
    assert 0 < int(refused["Retry-After"]) <= WINDOW.total_seconds() + 1
    assert "Too many logins failed. Try again in 15 min." in refused.content.decode()
    assert len(hashed) == lockout.MOST_OF_PAIR, "who is locked out costs nothing"
    assert gets_in(Client(), address="192.0.2.2"), "elsewhere nobody is locked out"
    assert gets_in(Client(), name="olga"), "nor is anybody else"
    told = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert sum(line["event"] == "login_failed" for line in told) == lockout.MOST_OF_PAIR
    [line] = [line for line in told if line["event"] == "login_locked_out"]
    assert (line["name"], line["address"], line["what"]) == ("admin", "192.0.2.1", "name from this address")
    assert "wrong" not in caplog.text


def test_a_lockout_ends() -> None:
    fail(lockout.MOST_OF_PAIR + 1)
    assert not gets_in(Client())
    FailedLogins.objects.update(since=ago(WINDOW))
    assert gets_in(Client())


def test_a_login_forgets_the_failures_before_it() -> None:
    for _ in range(3):
        fail(lockout.MOST_OF_PAIR - 1)
        assert gets_in(Client())
    assert sum(FailedLogins.objects.filter(number=lockout.MOST_OF_PAIR).values_list("number", flat=True)) == 0


def test_an_address_that_tries_many_names_is_locked_out() -> None:
    for number in range(lockout.MOST_OF_NETWORK):
        assert enter(Client(), name=f"user{number}").status_code == 200
    assert enter(Client(), name="another").status_code == 429
    assert enter(Client(), name="another", address="192.0.2.2").status_code == 200


def test_an_ipv6_network_is_one_address() -> None:
    for number in range(lockout.MOST_OF_PAIR):
        enter(Client(), address=f"2001:db8::{number}")
    assert enter(Client(), address="2001:db8::ffff").status_code == 429
    assert enter(Client(), address="2001:db8:0:1::1").status_code == 200


def test_who_logged_in_before_by_this_browser_is_let_in_whatever_others_do() -> None:
    known = Client()
    assert gets_in(known)
    known.post("/admin/logout/")
    for number in range(lockout.MOST_OF_NETWORK):
        fail(1, name=f"user{number}")
    fail(lockout.MOST_OF_PAIR)
    assert not gets_in(Client()), "the name and the address are locked out"
    assert gets_in(known)


def test_a_known_browser_has_few_tries_too_and_is_a_strangers_then() -> None:
    known = Client()
    assert gets_in(known)
    known.post("/admin/logout/")
    for _ in range(lockout.MOST_OF_DEVICE + lockout.MOST_OF_PAIR):
        assert enter(known).status_code == 200
    assert enter(known, RIGHT).status_code == 429


def test_a_known_browser_is_known_for_its_name_only() -> None:
    known = Client()
    assert gets_in(known, name="olga")
    known.post("/admin/logout/")
    fail(lockout.MOST_OF_PAIR)
    assert enter(known, RIGHT, name="admin").status_code == 429


@pytest.mark.parametrize("forged", ["", "x", "WyJhIiwiYiJd:1uXYZ:abc", "\x00"])
def test_no_browser_makes_itself_known(forged: str) -> None:
    client = Client()
    client.cookies[lockout.DEVICE] = forged
    fail(lockout.MOST_OF_PAIR)
    assert enter(client, RIGHT).status_code == 429


def test_a_name_tried_from_everywhere_is_still_let_in_from_where_nobody_failed() -> None:
    for number in range(lockout.MOST_OF_NAME):
        enter(Client(), address=f"198.51.100.{number}")
    assert enter(Client(), address="192.0.2.7").status_code == 200
    assert enter(Client(), address="192.0.2.7").status_code == 429, "one try a network"
    assert gets_in(Client(), address="192.0.2.8")


def test_names_that_there_are_cost_as_much_as_those_that_there_are_not(hashed: list[str]) -> None:
    User.objects.create_user("robot")
    User.objects.filter(username="olga").update(is_active=False)
    for name in ("admin", "olga", "robot", "nobody"):
        hashed.clear()
        answer = enter(Client(), name=name)
        assert (len(hashed), answer.status_code) == (1, 200), name
        assert "The name or the password is wrong" in answer.content.decode()


def test_what_is_kept_of_a_flood_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.models.FailedLoginsQuerySet.prune.__defaults__", (20,))
    for number in range(60):
        enter(Client(), name="x" * 150 + f"{number}", address=f"198.51.100.{number}")
        assert FailedLogins.objects.count() <= 20 + 3
    FailedLogins.objects.update(since=ago(WINDOW))
    enter(Client())
    assert FailedLogins.objects.count() == 3


def test_a_name_is_told_in_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    enter(Client(), name="a\x1b[2J\nlogin_failed name=olga " + "x" * 100)
    [line] = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert line["name"].startswith("a\\x1b[2J\\nlogin_failed")
    assert len(line["name"]) < 80


def test_unlock_lets_everybody_try_again() -> None:
    fail(lockout.MOST_OF_PAIR)
    assert unlocked() == "All failed logins are forgotten.\n"
    assert gets_in(Client())
    # Those who got in at once are no failures.
    assert unlocked() == "No login has failed lately: there is nothing to forget.\n"


def unlocked() -> str:
    """What the command says."""
    said = io.StringIO()
    call_command("unlock", stdout=said)
    return said.getvalue()


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
        ("10.0.0.1:4711", "[2001:db8::1]:80", "2001:db8::1"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
    ],
)
def test_only_a_trusted_proxy_says_where_a_call_comes_from(
    peer: str,
    forwarded: str,
    counted: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(conf, "TRUSTED_PROXIES", (ip_network("10.0.0.0/8"),))
    enter(Client(), address=peer, HTTP_X_FORWARDED_FOR=forwarded)
    [line] = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert line["address"] == counted


def test_few_passwords_are_hashed_at_once_and_few_wait() -> None:
    slots, leave = HashingSlots(1, 2, patience=60), threading.Event()
    at_once, most = 0, 0

    def take() -> None:
        nonlocal at_once, most
        with slots.take():
            at_once += 1
            most = max(most, at_once)
            leave.wait(60)
            at_once -= 1

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for("all are in", lambda: not slots._admitted._value)
    with pytest.raises(TooBusy), slots.take():
        pass
    leave.set()
    for thread in threads:
        thread.join(60)
    assert most == 1


def test_whoever_waits_too_long_is_told_to_come_again() -> None:
    slots = HashingSlots(1, 1, patience=0.01)
    with slots.take(), pytest.raises(TooBusy), slots.take():
        pass
    with slots.take():
        pass


def test_a_password_that_nobody_looked_at_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "strangers", HashingSlots(1, 0, patience=0.01))
    with hashing.strangers.take():
        for _ in range(lockout.MOST_OF_PAIR + 1):
            busy = enter(Client(), RIGHT)
            assert (busy.status_code, busy["Retry-After"]) == (503, "3")
    assert "Too many passwords are being checked" in busy.content.decode()
    assert gets_in(Client())


def test_strangers_passwords_keep_no_known_browser_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "strangers", HashingSlots(1, 0, patience=0.01))
    known = Client()
    assert gets_in(known)
    known.post("/admin/logout/")
    with hashing.strangers.take():
        assert enter(Client(), RIGHT).status_code == 503
        assert gets_in(known)


def test_a_changed_password_waits_for_its_turn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    client.force_login(User.objects.get(username="admin"))
    url = f"/admin/auth/user/{User.objects.get(username='olga').pk}/password/"
    slots = HashingSlots(1, 0, patience=0.01)
    before = hashing.slots.set(slots)
    with slots.take():
        answer = client.post(url, {"password1": "a much better one", "password2": "a much better one"})
    hashing.slots.reset(before)
    assert (answer.status_code, answer["Retry-After"]) == (503, "3")


def test_an_open_session_is_no_way_to_guess_its_password(hashed: list[str]) -> None:
    client = Client()
    client.force_login(User.objects.get(username="admin"))
    fields = dict.fromkeys(("new_password1", "new_password2"), "a much better one")
    for _ in range(lockout.MOST_OF_PAIR):
        answer = client.post("/admin/password_change/", {"old_password": "wrong", **fields})
        assert "Your old password was entered incorrectly" in answer.content.decode()
    hashed.clear()
    answer = client.post("/admin/password_change/", {"old_password": RIGHT, **fields})
    assert "Too many logins failed" in answer.content.decode()
    assert not hashed
    FailedLogins.objects.update(since=ago(WINDOW))
    assert client.post("/admin/password_change/", {"old_password": RIGHT, **fields}).status_code == 302
    assert User.objects.get(username="admin").check_password("a much better one")


def test_tokens_that_open_nothing_are_told(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(30):
        assert bearer("f" * 64).call("GET", "configs").status_code == 401
    told = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert 0 < len(told) <= 10
    assert {line["event"] for line in told} == {"token_refused"}
    assert "f" * 15 not in caplog.text


def test_a_role_is_enough_to_log_in() -> None:
    user("vera", Role.VIEWER, password=RIGHT)
    client = Client()
    assert gets_in(client, name="vera")
    assert client.get("/admin/").status_code == 200
    assert not User.objects.get(username="vera").is_staff


def test_nobody_gets_in_without_a_role_and_staffs_box_or_once_deactivated() -> None:
    user("nemo", password=RIGHT)
    assert not gets_in(Client(), name="nemo")
    # Who has somebody's password gets no further, which somebody should hear of.
    act = Act.objects.latest("pk")
    assert (act.person, act.verb, act.reason) == ("nemo", "refuse", "it has no role")
    assert act.object == "log in to the admin, with the right password"
    client, vera = Client(), user("vera", Role.VIEWER, password=RIGHT)
    assert gets_in(client, name="vera")
    vera.groups.clear()
    assert client.get("/admin/nodes/node/").status_code == 302
    vera.groups.set(Group.objects.filter(name=Role.VIEWER))
    User.objects.filter(username="vera").update(is_active=False)
    assert client.get("/admin/nodes/node/").status_code == 302
