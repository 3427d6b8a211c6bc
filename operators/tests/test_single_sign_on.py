"""People log in by an OpenID provider: a real one, that says who they are and what they may do, and is asked again."""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from datetime import timedelta
from ipaddress import ip_network
from threading import BoundedSemaphore, Event, Semaphore
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from joserfc import jwt
from joserfc.jwk import JWKRegistry, OctKey
from knox.models import AuthToken

from acts.models import Act
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.logs import RateLimit
from nodes.models import NodeToken
from operators import identities, provider, signon
from operators.calls import Session
from operators.models import BrokenGlass, Identity
from operators.roles import Role
from operators.tests.cast import bearer
from tests import identity_provider
from tests.identity_provider import IdentityProvider, running
from tests.table import table

pytestmark = pytest.mark.django_db

BEGIN = "/admin/login/provider/"
ANSWER = "http://localhost/admin/login/provider/answer/"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    with running(tmp_path_factory.mktemp("provider")) as one:
        one.expect(ANSWER)
        yield one


@pytest.fixture
def idp(real: IdentityProvider, monkeypatch: pytest.MonkeyPatch) -> Iterator[IdentityProvider]:
    """The provider, which this program knows."""
    monkeypatch.setattr(conf, "OIDC_ISSUER", real.issuer)
    monkeypatch.setattr(conf, "OIDC_CLIENT_ID", identity_provider.CLIENT_ID)
    monkeypatch.setattr(conf, "OIDC_CLIENT_SECRET", real.client_secret)
    monkeypatch.setattr(conf, "OIDC_SCOPES", ("openid", "profile", "email", "groups"))
    monkeypatch.setattr(conf, "GROUP_ROLES", {"operator": ("sre", "oncall"), "admin": ("platform",)})
    monkeypatch.setattr(provider._away, "until", 0.0)
    provider.provider.cache_clear()
    yield real
    provider.provider.cache_clear()


def enter(idp: IdentityProvider, person: Any, where: str = "") -> tuple[Client, Any]:
    """Go the whole way of a login, as a browser does. Returns the browser and the last answer."""
    browser = Client(headers={"host": "localhost"})
    begun = browser.get(BEGIN, {"next": where} if where else {})
    assert begun.status_code == 302, begun.content
    back = idp.log_in(person, begun["Location"])
    assert back.startswith(ANSWER)
    return browser, browser.get(BEGIN + "answer/?" + urlsplit(back).query)


def roles(name: str) -> list[str]:
    return sorted(User.objects.get(username=name).groups.values_list("name", flat=True))


def overdue(by: timedelta = timedelta(0)) -> None:
    """The provider's word is older than it may be, by so much."""
    Identity.objects.update(
        confirmed_at=ago(conf.OIDC_CONFIRMED_EACH + by), asked_at=ago(conf.OIDC_CONFIRMED_EACH + by)
    )


def is_in(browser: Client) -> bool:
    return bool(browser.get("/admin/").status_code == 200)


def test_a_person_gets_the_roles_of_the_groups(idp: IdentityProvider) -> None:
    browser, answer = enter(idp, idp.put("olga", "sre", "choir"), "/admin/checks/config/")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/checks/config/")
    assert is_in(browser)
    assert roles("olga") == ["operator"]
    user = User.objects.get(username="olga")
    assert (user.email, user.has_usable_password(), user.is_superuser) == ("olga@example.com", False, False)
    made = [(act.person, act.verb, act.object) for act in Act.objects.order_by("pk")]
    assert made == [
        ("olga", "make", "user olga"), ("olga", "change", "roles of user olga"), ("olga", "log in", "to the admin"),
    ]  # fmt: skip


def test_the_login_page_offers_it(idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Client().get("/admin/login/?next=/admin/nodes/node/").content.decode()
    assert 'href="/admin/login/provider/?next=%2Fadmin%2Fnodes%2Fnode%2F"' in page
    monkeypatch.setattr(conf, "OIDC_ISSUER", "")
    assert "/admin/login/provider/" not in Client().get("/admin/login/").content.decode()
    assert Client().get(BEGIN).status_code == 404


def test_who_has_no_group_with_a_role_stays_out_and_no_user_is_made(idp: IdentityProvider) -> None:
    browser, answer = enter(idp, idp.put("vera", "choir"))
    assert answer.status_code == 403
    assert "none of its groups (choir) has a role here" in answer.content.decode()
    assert not is_in(browser)
    assert not User.objects.filter(username="vera").exists()
    act = Act.objects.get()
    assert (act.person, str(act), act.reason) == (
        "vera",
        "fail to log in to the admin",
        "none of its groups (choir) has a role here",
    )


def test_strangers_are_on_record_so_many_times_an_hour(idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signon, "_refused", RateLimit(2, seconds=3600))
    for _ in range(4):
        enter(idp, idp.put("vera", "choir"))
    assert Act.objects.count() == 2


def test_who_has_no_role_any_more_stays_out_on_record(idp: IdentityProvider) -> None:
    person = idp.put("lena", "sre")
    enter(idp, person)
    idp.put(person, "choir")
    browser, answer = enter(idp, person)
    assert answer.status_code == 403
    assert not is_in(browser)
    act = Act.objects.get(verb=Act.Verb.FAIL)
    assert (act.person, str(act)) == ("lena", "fail to log in to the admin")


def test_a_name_that_a_local_user_has_is_not_taken_over(idp: IdentityProvider) -> None:
    User.objects.create_superuser("admin")
    browser, answer = enter(idp, idp.put("admin", "sre"))
    assert answer.status_code == 403
    assert f"the user admin is somebody who does not log in by {idp.issuer}" in answer.content.decode()
    assert not is_in(browser)


def test_nobody_takes_the_name_of_another_person_or_one_that_looks_like_it(idp: IdentityProvider) -> None:
    enter(idp, idp.put("olga", "sre"))
    Identity.objects.update(subject="olga who left")
    for name in ("olga", "OLGA", "\uff4flga"):
        _, answer = enter(idp, idp.put(name, "sre"))
        assert "the user olga is another person: an admin renames or deletes it first" in answer.content.decode()
    identities.enter(provider.person("42", "ol\u200bga", "", ["sre"]))
    for name in ("\uff42reakglass", "\u00a0", ""):
        with pytest.raises(provider.Denied):
            identities.enter(provider.person("43", name, "", ["sre"]))
    # One letter that becomes eighteen.
    identities.enter(provider.person("44", "\ufdfa" * 100, "", ["operators", "sre"]))
    User.objects.get(identity__subject="44").delete()
    assert set(User.objects.values_list("username", flat=True)) == {"olga", "ol\\u200bga"}


def test_an_error_of_the_answer_is_shown_as_it_is(idp: IdentityProvider) -> None:
    for error, told in (("\u202eabc", "\\u202eabc."), ("", "no code came.")):
        browser = Client(headers={"host": "localhost"})
        begun = browser.get(BEGIN)
        state = parse_qs(urlsplit(begun["Location"]).query)["state"][0]
        page = browser.get(BEGIN + "answer/", {"state": state, "error": error}).content.decode()
        assert f"Your login was refused: {told}" in page


def test_what_a_person_had_here_beyond_the_groups_goes(idp: IdentityProvider) -> None:
    person = idp.put("otto", "sre")
    enter(idp, person)
    User.objects.filter(username="otto").update(is_superuser=True)
    User.objects.get(username="otto").groups.add(Group.objects.get(name=Role.AUTHOR))
    idp.put(person, "platform")
    enter(idp, person)
    assert (roles("otto"), User.objects.get(username="otto").is_superuser) == (["admin"], False)


def test_who_left_a_group_loses_the_role_within_the_time(idp: IdentityProvider) -> None:
    person = idp.put("lena", "platform")
    browser, _ = enter(idp, person)
    idp.put(person, "sre")
    assert is_in(browser)
    assert roles("lena") == ["admin"]
    overdue()
    assert is_in(browser)
    assert roles("lena") == ["operator"]
    [act] = Act.objects.filter(verb="change", before=["admin"])
    assert (act.person, act.after) == ("lena", ["operator"])


def test_strangers_who_log_in_keep_nobody_from_being_asked_about(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many logins as may be wait for an answer."""
    person = idp.put("rosa", "platform")
    browser, _ = enter(idp, person)
    full = BoundedSemaphore(1)
    full.acquire()
    monkeypatch.setattr(provider, "_logins", full)
    idp.put(person, "sre")
    overdue()
    assert is_in(browser)
    assert roles("rosa") == ["operator"]
    assert b"try again" in Client(headers={"host": "localhost"}).get(BEGIN).content.lower()


def test_who_left_all_groups_loses_session_and_tokens(idp: IdentityProvider) -> None:
    person = idp.put("mara", "sre")
    browser, _ = enter(idp, person)
    _, token = AuthToken.objects.create(User.objects.get(username="mara"))
    script = bearer(token)
    assert script.call("GET", "nodes").status_code == 200
    idp.put(person)
    overdue()
    refused = script.call("GET", "nodes")
    assert refused.status_code == 401
    assert "none of its groups (none) has a role here" in refused.json()["detail"]
    assert not is_in(browser)
    said = "Your user may not act now: none of its groups (none) has a role here."
    assert said in browser.get("/admin/", follow=True).content.decode()
    assert "may not act now" not in Client().get("/admin/", follow=True).content.decode()
    assert roles("mara") == []
    idp.put(person, "sre")
    overdue()
    assert script.call("GET", "nodes").status_code == 200, "back in the group, back in"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("groups", [(), ("sre",)])
def test_calls_that_come_while_the_provider_is_asked_go_by_its_answer(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch, groups: tuple[str, ...]
) -> None:
    person = idp.put("dora", "platform")
    enter(idp, person)
    _, token = AuthToken.objects.create(User.objects.get(username="dora"))
    idp.put(person, *groups)
    overdue()
    asking, others, renew = Event(), Semaphore(0), provider.renew

    def renew_late(*about: str) -> Any:
        asking.set()
        for _ in range(6):
            assert others.acquire(timeout=30)
        return renew(*about)

    def wait(seconds: float) -> None:
        others.release()
        time.sleep(seconds)

    def call(number: int) -> int:
        try:
            # As few wait as may, and make nothing.
            answer = bearer(token).call("POST", "node-tokens", {"note": f"{number}", "pattern": "*"})
            return int(answer.status_code)
        finally:
            connection.close()

    monkeypatch.setattr(provider, "renew", renew_late)
    monkeypatch.setattr(identities, "sleep", wait)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(call, 0)
        assert asking.wait(30)
        rest = [pool.submit(call, number) for number in range(1, 8)]
        statuses = {one.result() for one in [first, *rest]}
    assert statuses == {403 if groups else 401}
    assert not NodeToken.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_more_callers_than_may_wait_do_not_act_by_the_last_word(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, _ = enter(idp, idp.put("emil", "sre"))
    full = BoundedSemaphore(1)
    full.acquire()
    monkeypatch.setattr(identities, "_waiting", full)
    overdue()
    Identity.objects.update(asked_at=Now())
    assert not is_in(browser)
    # As soon as it is known that there is no answer, the last word holds.
    Identity.objects.update(unanswered_at=Now())
    assert is_in(browser)


def test_whom_the_provider_forgot_is_out(idp: IdentityProvider) -> None:
    browser, _ = enter(idp, idp.put("nils", "sre"))
    idp.revoke()
    overdue()
    assert not is_in(browser)
    assert roles("nils") == []
    assert "does not confirm it any more" in Identity.objects.get(user__username="nils").refusal


def test_a_provider_that_is_away_keeps_nobody_out_for_an_hour(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, _ = enter(idp, idp.put("rosa", "sre"))
    asked: list[str] = []

    def away(subject: str, renewal: str) -> Any:
        asked.append(subject)
        raise provider.Unreachable("it is away")

    monkeypatch.setattr(provider, "renew", away)
    overdue()
    assert is_in(browser)
    assert is_in(browser)
    assert len(asked) == 1, "it is not asked with each call"
    overdue(identities.GRACE)
    assert not is_in(browser)
    assert roles("rosa") == ["operator"], "nobody said that the role is gone"


def test_a_login_without_a_renewal_ends_with_the_time(idp: IdentityProvider) -> None:
    browser, _ = enter(idp, idp.put("sven", "sre"))
    Identity.objects.update(renewal=b"")
    assert is_in(browser)
    overdue()
    assert not is_in(browser)


def test_a_renewal_is_not_in_the_database_in_clear(idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    real_renew = provider.renew

    def renew(subject: str, renewal: str) -> Any:
        told.append(renewal)
        return real_renew(subject, renewal)

    monkeypatch.setattr(provider, "renew", renew)
    browser, _ = enter(idp, idp.put("tara", "sre"))
    kept = bytes(Identity.objects.get(user__username="tara").renewal)
    overdue()
    assert is_in(browser)
    assert told[0]
    assert told[0].encode() not in kept


def test_another_secret_key_opens_no_renewal(idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(idp, idp.put("thea", "sre"))
    monkeypatch.setattr(conf, "SECRET_KEY", "another key, as after the theft of the one before")
    overdue()
    _, refusal = identities.found(User.objects.get(username="thea").pk)
    assert "log in again" in refusal


def test_an_answer_opens_one_login_in_one_browser(idp: IdentityProvider) -> None:
    person = idp.put("uwe", "sre")
    browser = Client(headers={"host": "localhost"})
    query = urlsplit(idp.log_in(person, browser.get(BEGIN)["Location"])).query
    kept = browser.cookies[signon.COOKIE].value
    other = Client(headers={"host": "localhost"})
    assert other.get(f"{BEGIN}answer/?{query}").status_code == 400, "who did not begin it"
    assert browser.get(f"{BEGIN}answer/?{query}").status_code == 302
    browser.logout()
    assert browser.get(f"{BEGIN}answer/?{query}").status_code == 400, "again"
    browser.cookies[signon.COOKIE] = kept
    again = browser.get(f"{BEGIN}answer/?{query}")
    assert again.status_code == 403, "again, with what the browser kept: the provider takes a code once"
    assert not is_in(browser)


@pytest.mark.parametrize("where", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "/\\evil.example"])
def test_a_login_leads_nowhere_else(idp: IdentityProvider, where: str) -> None:
    _, answer = enter(idp, idp.put(f"zoe{abs(hash(where))}", "sre"), where)
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")


def test_another_state_code_or_provider_is_refused(idp: IdentityProvider) -> None:
    person = idp.put("xena", "sre")
    for change, status in (({"state": "x"}, 400), ({"code": "x"}, 403), ({"iss": "https://evil.example"}, 403)):
        browser = Client(headers={"host": "localhost"})
        query = parse_qs(urlsplit(idp.log_in(person, browser.get(BEGIN)["Location"])).query)
        sent = {key: values[0] for key, values in query.items()} | change
        assert browser.get(f"{BEGIN}answer/", sent).status_code == status, change
        assert not is_in(browser)
    browser = Client(headers={"host": "localhost"})
    state = parse_qs(urlsplit(browser.get(BEGIN)["Location"]).query)["state"][0]
    refused = browser.get(f"{BEGIN}answer/", {"state": state, "error": "<script>access_denied"})
    assert refused.status_code == 403
    assert "&lt;script&gt;access_denied" in refused.content.decode()


NOW = int(time.time())
FORGED: dict[str, Callable[[dict[str, Any], Any], str]] = {
    "expired": lambda claims, key: sign(claims | {"exp": NOW - 3600}, key),
    "from the future": lambda claims, key: sign(claims | {"iat": NOW + 3600, "nbf": NOW + 3600}, key),
    "for another client": lambda claims, key: sign(claims | {"aud": ["another"]}, key),
    "of another provider": lambda claims, key: sign(claims | {"iss": "https://evil.example"}, key),
    "of another login": lambda claims, key: sign(claims | {"nonce": "another"}, key),
    "without a nonce": lambda claims, key: sign({k: v for k, v in claims.items() if k != "nonce"}, key),
    "without an end": lambda claims, key: sign({k: v for k, v in claims.items() if k != "exp"}, key),
    "by another key": lambda claims, key: sign(claims, JWKRegistry.generate_key("RSA", 2048), key.kid),
    "by no key": lambda claims, key: f"{packed({'alg': 'none'})}.{packed(claims)}.",
    "by the public key as a secret": lambda claims, key: jwt.encode(
        {"alg": "HS256", "kid": key.kid}, claims, OctKey.import_key(key.as_pem(private=False)), algorithms=["HS256"]
    ),
    "by the client's secret": lambda claims, key: jwt.encode(
        {"alg": "HS256"}, claims, OctKey.import_key(conf.OIDC_CLIENT_SECRET), algorithms=["HS256"]
    ),
    "none at all": lambda claims, key: "",
    "no token": lambda claims, key: "a.b.c",
}


def packed(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def sign(claims: dict[str, Any], key: Any, kid: str = "") -> str:
    return str(jwt.encode({"alg": "RS256", "kid": kid or key.kid}, claims, key))


@pytest.mark.parametrize("how", ["as the provider signs", *FORGED])
def test_a_forged_token_opens_nothing(idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """What the provider sends is replaced on the way, signed by its own key where that is not what is forged."""
    forge = FORGED.get(how, sign)
    real_fetch = provider.Provider.fetch_access_token

    def fetch(self: Any, *args: Any, **kwargs: Any) -> Any:
        token = real_fetch(self, *args, **kwargs)
        claims = dict(jwt.decode(token["id_token"], idp.key, algorithms=list(provider.ALGORITHMS)).claims)
        # It depends on the algorithm, and may be left out.
        del claims["at_hash"]
        return token | {"id_token": forge(claims, idp.key)}

    monkeypatch.setattr(provider.Provider, "fetch_access_token", fetch)
    name = f"wanda{abs(hash(how))}"
    browser, answer = enter(idp, idp.put(name, "sre"))
    if how in FORGED:
        assert answer.status_code == 403, answer.content
        assert not is_in(browser)
        assert not User.objects.filter(username=name).exists()
    else:
        assert is_in(browser)


def test_a_provider_that_calls_itself_otherwise_is_not_believed(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "OIDC_ISSUER", f"{idp.issuer}/")
    provider.provider.cache_clear()
    answer = Client(headers={"host": "localhost"}).get(BEGIN)
    assert answer.status_code == 403
    assert "the provider calls itself" in answer.content.decode()


def test_a_provider_that_is_away_is_told(idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "OIDC_ISSUER", "http://127.0.0.1:9")
    provider.provider.cache_clear()
    answer = Client(headers={"host": "localhost"}).get(BEGIN)
    assert (answer.status_code, answer["Retry-After"]) == (503, "30")
    assert "clusteragent breakglass" in answer.content.decode()


@pytest.fixture(
    params=[b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n{"], ids=["header", "body"]
)
def trickle(request: pytest.FixtureRequest) -> Iterator[tuple[str, threading.Event]]:
    """(URL, event) of a provider whose answers never end, though something always comes. The event: who called has hung up."""
    left = threading.Event()

    def answer() -> None:
        with suppress(OSError), listening.accept()[0] as called:
            called.sendall(request.param)
            called.settimeout(0.05)
            called.recv(65536)
            while not left.is_set():
                with suppress(TimeoutError):
                    if not called.recv(1):
                        break
                called.sendall(b"x")
        left.set()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        answering = threading.Thread(target=answer)
        answering.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", left
        left.set()
        answering.join()


def test_a_provider_whose_answer_never_ends_is_away(
    idp: IdentityProvider, trickle: tuple[str, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may say something now and then. Else each login would hold a thread for hours."""
    url, left = trickle
    monkeypatch.setattr(conf, "OIDC_ISSUER", url)
    monkeypatch.setattr(provider, "ALL_WITHIN", 0.2)
    provider.provider.cache_clear()
    answer = Client(headers={"host": "localhost"}).get(BEGIN)
    assert answer.status_code == 503
    assert left.wait(60)
    with pytest.raises(provider.Unreachable, match="away a moment ago"):
        provider.begin(ANSWER)


@pytest.mark.parametrize(("size", "is_read"), [(4 << 20, True), ((4 << 20) + 1, False)])
def test_no_more_of_an_answer_is_read_than_a_provider_says(*, size: int, is_read: bool) -> None:
    def answer() -> None:
        with suppress(OSError), listening.accept()[0] as called:
            called.recv(65536)
            called.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            called.sendall(b"x" * size)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        answering = threading.Thread(target=answer)
        answering.start()
        try:
            with (
                Session("us") as session,
                pytest.raises(requests.RequestException, match="longer") if not is_read else nullcontext(),
            ):
                got = session.request("GET", f"http://127.0.0.1:{listening.getsockname()[1]}", withhold_token=True)
                assert len(got.content) == size
        finally:
            answering.join()


def test_a_password_opens_no_session_of_the_providers_people(idp: IdentityProvider) -> None:
    enter(idp, idp.put("yuri", "sre"))
    user = User.objects.get(username="yuri")
    user.set_password("correct horse battery")
    user.save()
    browser = Client()
    browser.post("/admin/login/", {"username": "yuri", "password": "correct horse battery"})
    assert not is_in(browser)


def by_password(name: str, password: str) -> Client:
    browser = Client()
    browser.post("/admin/login/", {"username": name, "password": password})
    return browser


def test_passwords_can_be_switched_off_but_for_an_emergency(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    User.objects.create_superuser("local", password="correct horse battery")
    before = by_password("local", "correct horse battery")
    assert is_in(before)
    monkeypatch.setattr(conf, "LOCAL_LOGIN", False)
    assert not is_in(by_password("local", "correct horse battery"))
    call_command("breakglass")
    password = capsys.readouterr().out.strip()
    browser = by_password("breakglass", password)
    assert is_in(browser)
    assert roles("breakglass") == ["admin"]
    BrokenGlass.objects.update(ends_at=Now())
    assert not is_in(browser)
    assert not is_in(by_password("breakglass", password))
    call_command("breakglass")
    assert not is_in(by_password("breakglass", password)), "another password each time"
    assert is_in(by_password("breakglass", capsys.readouterr().out.strip()))
    assert Act.objects.filter(object__startswith="user breakglass, let in until").count() == 2
    with pytest.raises(CommandError, match="there is a user local: take another name"):
        call_command("breakglass", "--user", "local")


def test_a_token_made_in_an_emergency_ends_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("breakglass")
    _, token = AuthToken.objects.create(User.objects.get(username="breakglass"))
    assert bearer(token).call("GET", "nodes").status_code == 200
    BrokenGlass.objects.update(ends_at=Now())
    assert bearer(token).call("GET", "nodes").status_code == 401


PROXY = "192.0.2.7"


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls a page as a proxy does that names a person and groups, in one browser."""
    monkeypatch.setattr(conf, "LOGIN_PROXIES", (ip_network(PROXY),))
    monkeypatch.setattr(conf, "GROUP_ROLES", {"operator": ("sre",), "admin": ("platform",)})
    # The middleware looks at the options when it is made.
    browser = Client(headers={"host": "localhost"})

    def call(user: str, groups: str = "", address: str = PROXY, client: Client = browser) -> Any:
        headers = {"X-Forwarded-User": user, "X-Forwarded-Groups": groups} if user else {}
        return client.get("/admin/", headers=headers, REMOTE_ADDR=address)

    return call


def test_a_proxy_names_who_is_in(behind: Callable[..., Any]) -> None:
    assert behind("olga", "sre,choir").status_code == 200
    assert roles("olga") == ["operator"]
    assert behind("olga", "platform").status_code == 200
    assert roles("olga") == ["admin"], "at once: it says so with each call"
    assert behind("olga", "choir").status_code == 403
    assert roles("olga") == []
    assert behind("otto", "sre").status_code == 200
    assert behind("eva", "sre").status_code == 200
    assert [act.person for act in Act.objects.filter(verb="log in").order_by("pk")] == ["olga", "otto", "eva"]
    assert [act.person for act in Act.objects.filter(verb="log out")] == ["otto"]
    failed = Act.objects.get(verb=Act.Verb.FAIL)
    assert (failed.person, failed.reason) == ("olga", "none of its groups (choir) has a role here")


def test_roles_follow_the_call_of_a_proxy_whatever_another_session_told(behind: Callable[..., Any]) -> None:
    other = Client(headers={"host": "localhost"})
    for client, groups, role in ((None, "sre", "operator"), (other, "platform", "admin"), (None, "sre", "operator")):
        kwargs = {"client": client} if client else {}
        assert behind("dora", groups, **kwargs).status_code == 200
        assert roles("dora") == [role]
    assert behind("").status_code == 302, "it names nobody any more"


@pytest.mark.parametrize("address", ["192.0.2.8", "127.0.0.1"])
def test_nobody_else_names_who_is_in(behind: Callable[..., Any], address: str) -> None:
    assert behind("admin", "platform", address=address).status_code == 302
    assert not User.objects.filter(username="admin").exists()
    assert behind("olga", "sre").status_code == 200
    assert behind("olga", "sre", address=address).status_code == 302, "its cookie is worth nothing without the proxy"


def test_what_a_proxy_says_of_addresses_makes_no_call_the_proxys(
    behind: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "TRUSTED_PROXIES", (ip_network("192.0.2.9"),))
    headers = {"X-Forwarded-For": PROXY, "X-Forwarded-User": "admin", "X-Forwarded-Groups": "platform"}
    assert Client().get("/admin/", headers=headers, REMOTE_ADDR="192.0.2.9").status_code == 302


def test_a_proxy_takes_over_no_local_user(behind: Callable[..., Any]) -> None:
    User.objects.create_superuser("admin")
    assert behind("admin", "platform").status_code == 403


def test_without_the_option_the_headers_say_nothing() -> None:
    headers = {"X-Forwarded-User": "admin", "X-Forwarded-Groups": "platform"}
    assert Client().get("/admin/", headers=headers).status_code == 302
    assert not User.objects.filter(username="admin").exists()


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let each call by which a person is asked about again end like this."""

    def refresh(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(provider.Session, "refresh_token", refresh)


def answered(status: int) -> Exception:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


NO_WORD: list[Exception] = [
    answered(404), answered(429), answered(503), OAuthError("invalid_client"), OAuthError("temporarily_unavailable"),
    ValueError("no JSON"), requests.ConnectionError(),
]  # fmt: skip


@table("error", NO_WORD)
def test_an_answer_that_is_about_nobody_takes_no_role(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """An ingress without a provider behind it, a limit of calls, a secret of ours that is another one by now."""
    provider._away.until = 0.0
    enter(idp, idp.put("ada", "sre"))
    with monkeypatch.context() as broken:
        failing(broken, error)
        overdue()
        assert identities.found(User.objects.get(username="ada").pk)[1] == ""
    assert roles("ada") == ["operator"]


def test_what_is_not_the_provider_takes_no_role(idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a page of an ingress that answers in the provider's place."""
    browser, _ = enter(idp, idp.put("cleo", "sre"))
    overdue()
    provider.provider.cache_clear()
    monkeypatch.setattr(provider.OAuth2Mixin, "load_server_metadata", lambda self: {"status": "maintenance"})
    assert is_in(browser)
    assert roles("cleo") == ["operator"]


def test_a_login_counts_more_than_the_renewal_that_it_overtook(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _ = enter(idp, idp.put("berta", "sre"))
    overdue()

    def renew(subject: str, renewal: str) -> Any:
        identities.enter(provider.person(subject, "berta", "", ["sre"], "the renewal of another login"))
        raise provider.Denied("the renewal before is worth nothing any more")

    monkeypatch.setattr(provider, "renew", renew)
    assert is_in(old)
    assert roles("berta") == ["operator"]


ODD: list[dict[str, Any]] = [
    {"sub": "a\0b"}, {"sub": ""}, {"sub": "s" * 300},
    {"email": "e" * 300 + "\0"}, {"preferred_username": "n\0" * 200}, {"groups": ["sre", "g\0", "\ud800", 7]},
    {"groups": ["a", "sre", *map(str, range(500))]},
]  # fmt: skip


@table("claims", ODD)
def test_odd_claims_are_refused_or_kept_without_harm(idp: IdentityProvider, claims: dict[str, Any]) -> None:
    User.objects.filter(identity__isnull=False).delete()
    said = {"sub": "1", "preferred_username": "odd", "groups": ["sre"]} | claims
    if "sub" in claims:
        with pytest.raises(provider.Denied, match="subject"):
            provider._person(said, {})
        return
    user, refusal = identities.enter(provider._person(said, {}))
    assert (refusal, [group.name for group in user.groups.all()]) == ("", ["operator"])


def test_what_was_kept_of_an_emergency_opens_nothing_in_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("breakglass")
    user = User.objects.get(username="breakglass")
    User.objects.filter(pk=user.pk).update(is_superuser=True)
    _, token = AuthToken.objects.create(user)
    call_command("breakglass")
    assert bearer(token).call("GET", "nodes").status_code == 401
    assert not User.objects.get(pk=user.pk).is_superuser


def test_the_name_for_emergencies_is_nobodys(idp: IdentityProvider) -> None:
    _, answer = enter(idp, idp.put("breakglass", "sre"))
    assert answer.status_code == 403
    assert "kept for emergencies" in answer.content.decode()


def test_sessions_by_password_end_when_passwords_are_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    User.objects.create_superuser("local", password="correct horse battery")
    browser = by_password("local", "correct horse battery")
    assert is_in(browser)
    monkeypatch.setattr(conf, "LOCAL_LOGIN", False)
    assert not is_in(browser)


def test_a_proxys_cookie_is_worth_nothing_without_it_in_the_api_too(behind: Callable[..., Any]) -> None:
    browser = Client(headers={"host": "localhost"})
    assert behind("olga", "sre", client=browser).status_code == 200
    assert browser.get("/api/operator/v1/nodes/", REMOTE_ADDR="127.0.0.1").status_code in (401, 403)


def test_a_renamed_person_of_the_proxy_logs_in_once(behind: Callable[..., Any]) -> None:
    behind("olga", "sre")
    User.objects.filter(username="olga").update(username="olga-k")
    for _ in range(3):
        assert behind("olga", "sre").status_code == 200
    assert Act.objects.filter(verb="log in").count() == 1


def test_a_proxy_writes_utf_8(behind: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "GROUP_ROLES", {"operator": ("Müller",)})
    assert behind("Jürgen".encode().decode("latin-1"), "Müller".encode().decode("latin-1")).status_code == 200
    assert roles("Jürgen") == ["operator"]
