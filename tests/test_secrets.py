"""No secret in anything that others send or write is shown in anything that people or tools read."""

import base64
import io
import json
import logging
import logging.config
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import structlog
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now
from django.test import Client, override_settings
from django.utils.html import escape

from checks import tasks
from checks.explain import alerts, facts, state
from checks.models import Config, Instance, Move, Origin, Source
from checks.models.troubles import Trouble
from checks.sources import repatching
from checks.tests.cast import report
from clusteragent import webhook
from clusteragent.lib import conf, logs
from nodes.models import Heartbeat, NodeEvent, Runner, RunnerStats
from operators.roles import Role
from operators.tests.cast import having, user
from tests import world
from tests.table import table
from tests.walk import Page, Visitor

pytestmark = pytest.mark.django_db

SECRET = "hunter22"
INSTANCE = f"""
url: https://user:{SECRET}@db/x?api_key={SECRET}&y=1
name: postgres://user:{SECRET}@db/x
password: {SECRET}
headers: {{Authorization: Bearer {SECRET}, X-Api-Key: {SECRET}, Cookie: a={SECRET}}}
command: [run, --password, {SECRET}, "--token={SECRET}"]
deep: [{{credentials: [{{a: {SECRET}}}]}}]
query: "host=db password='{SECRET}'"
jwt: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{SECRET}
tags: ["token:{SECRET}"]
bindpw: {SECRET}
ssl_key: {SECRET}
hmac: {SECRET}
otp: {SECRET}
webhook: https://hooks.slack.com/services/T0/B0/{SECRET}
functions: https://x.azurewebsites.net/api/f?code={SECRET}
env: [{{Name: DB_PASSWORD, Value: {SECRET}}}, {{key: API_KEY, val: {SECRET}}}]
basic: Basic {SECRET}
login: user:{SECRET}
shell: curl -u user:{SECRET} https://x && mysql -p{SECRET} && run --password {SECRET}
sql: CREATE USER x IDENTIFIED BY '{SECRET}'
xml: <password>{SECRET}</password>
made: [ghp_{SECRET}, glpat-{SECRET}, xoxb-{SECRET}, sk_live_{SECRET}, npm_{SECRET}]
escaped: '{{\\\"password\\\": \\\"{SECRET}\\\"}}'
pem: |
  -----BEGIN PRIVATE KEY-----
  {SECRET}
  -----END PRIVATE KEY-----
"""
FIELDS = {
    "init_config": f"proxy: {{https: 'http://u:{SECRET}@proxy'}}\npasswd: {SECRET}\n",
    "logs": f"logs:\n- type: tcp\n  token: {SECRET}\n",
    "metric_config": f"conf:\n- secret: {SECRET}\n",
}
FORMS = (
    f"password={SECRET}",
    f"https://user:{SECRET}@db/x",
    f"Authorization: Bearer {SECRET}",
    f"can't connect with api_key: '{SECRET}'",
)
HEAD = "cluster_check: true\ninit_config:\ninstances:\n"
FILES = {
    "a.d/unclosed.yaml": f"{HEAD}- password: {SECRET}\n  b: [{SECRET}\n",
    "b.d/twice.yaml": f"{HEAD}- password: {SECRET}\npassword: {SECRET}\npassword: {SECRET}\n",
    "c.d/no_map.yaml": f"password={SECRET}\n",
    "d.d/no_list.yaml": f"cluster_check: true\ninstances: password={SECRET}\n",
    "e.d/no_instance.yaml": f"cluster_check: true\ninstances: ['password={SECRET}']\n",
    "f.d/anchor.yaml": f"{HEAD}- password: *{SECRET}\n",
    "g.d/tab.yaml": f"{HEAD}- password: {SECRET}\n\tb: {SECRET}\n",
    "h.d/tag.yaml": f"{HEAD}- password: !<tag:token={SECRET}> [{SECRET}\n",
    "i.d/flag.yaml": f"cluster_check: 'token={SECRET}'\ninstances: [{{}}]\n",
    f"j.d/token={SECRET}.yaml": f"{HEAD}- password: {SECRET}\n  b: [\n",
}
# Forms of what someone wrote by hand, for those who may write it again.
_CHANGING = re.compile(r'nonce="[^"]*"|csrfmiddlewaretoken[^>]*>|\d\d:\d\d:\d\d|\d+ s ago')
# The words of a search, each with a way to take it back.
_CHIPS = re.compile(r'<ul class="list-chips".*?</ul>', re.DOTALL)
_EDITED = re.compile(
    r'<textarea[^>]*name="(?:yaml|note)".*?</textarea>|<input[^>]*name="(?:key|note)"[^>]*>', re.DOTALL
)
# Where something is kept as it came, or as somebody wrote it: it is hidden wherever it is shown. The ledger is not among it.
KEPT = {
    "checks_config.original", "checks_instance.check_id", "checks_origin.key", "checks_source.errors",
    "checks_isolation.key", "checks_isolation.note", "checks_pause.key", "checks_pause.note", "checks_pin.key",
    "checks_pin.note", "checks_plan.order", "checks_rule.note", "nodes_noderule.note", "nodes_runner.error",
    "nodes_runnerstats.check_id", "nodes_runnerstats.last_error", "checks_trouble.check_id", "checks_trouble.last_error",
}  # fmt: skip


def word(place: str) -> str:
    """Return a text with a secret, in a different form for each place; names by which people and rules select are no secrets."""
    if place in ("aim", "rule", "label", "cause"):
        return place
    return f"{FORMS[sum(map(ord, place)) % len(FORMS)]}&place={place}"


@pytest.fixture(params=["console", "json"])
def log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """The log lines of the test, as they are written."""
    monkeypatch.setattr(conf, "LOG_FORMAT", request.param)
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    stream = io.StringIO()
    config = logs.config()
    config["handlers"]["stderr"]["stream"] = stream
    logging.config.dictConfig(config)
    yield stream
    root.handlers[:], root.level = before


@pytest.fixture
def olga(warm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    """An operator of a cluster with secrets in all texts."""
    olga = User.objects.create_superuser("olga")
    world.scan(tmp_path, FILES, monkeypatch)
    world.furnish(word, "olga", INSTANCE, **FIELDS)
    world.follow(f"{SECRET}1", SECRET)
    return olga


def test_an_error_of_a_check_is_shown_with_the_handle_of_what_it_quotes(warm: None) -> None:
    report("ash")
    world.follow(SECRET)
    check = Instance.objects.select_related("config__assignment__node").get()
    said = json.dumps([{"message": f"no host {SECRET} in http://x/{SECRET}", "traceback": f"line 1: {SECRET}"}])
    told = {"execution_ms": 90_000, "total_runs": 9, "total_errors": 9, "failed": True, "last_error": said}
    RunnerStats.objects.create(check_id=check.check_id, node=check.config.assignment.node, **told)
    Runner.objects.create(node=check.config.assignment.node)
    Trouble.objects.note()
    shown = "no host ENC[k8s_secret@shop/db/key] in http://x/ENC[k8s_secret@shop/db/key]"
    assert facts.of(check.config).error == shown
    assert [shown in alert.cause for alert in alerts.current() if alert.kind == alerts.Kind.FAILING] == [True]
    assert shown in b"".join(state._document(True)).decode()
    assert SECRET in b"".join(state._document(False)).decode()
    assert not leaks(Visitor(User.objects.create_superuser("olga")).pages())


def _sent_for_kubernetes() -> str:
    """All texts that node agents get of what is annotated at a Service."""
    sent = json.loads(bytes(Config.objects.get(origins__source="kubernetes").wire))
    return "".join(base64.b64decode(text).decode() for text in (*sent["instances"], sent["init_config"]))


def test_what_a_handle_stands_for_is_told_to_node_agents_alone(olga: User, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config.objects.get(origins__source="kubernetes")
    before = config.text
    assert (_sent_for_kubernetes().count(SECRET), before.count("ENC[k8s_secret@shop/db/key]")) == (4, 4)
    Config.objects.filter(pk=config.pk).update(text="", scrubbed=b"", patched_with="0.0.w2-0")
    repatching.renew()
    renewed = Config.objects.get(pk=config.pk)
    assert (renewed.text, bytes(renewed.scrubbed)) == (before, bytes(config.scrubbed))
    monkeypatch.setattr(conf, "GLOBAL_TAGS", ["env:prod"])
    while repatching.repatch():
        pass
    assert "env:prod" in _sent_for_kubernetes()
    assert _sent_for_kubernetes().count(SECRET) == 4


def leaks(pages: Iterable[Page]) -> dict[str, str]:
    """Return the pages that show a secret, with the text around it. Forms for editing may show it."""
    found = {}
    for page in pages:
        shown = _EDITED.sub("", page.text)
        if SECRET in shown:
            before, _, after = shown.partition(SECRET)
            found[page.url] = f"{before[-100:]}{SECRET}{after[:20]}"
    return found


def test_no_page_shows_one(olga: User) -> None:
    assert not leaks(Visitor(olga).pages())


def test_no_action_shows_one(olga: User) -> None:
    assert not leaks(Visitor(olga).actions())


def test_no_line_of_the_log_shows_one(log: io.StringIO, olga: User) -> None:
    for _ in Visitor(olga).actions():
        pass
    assert "config_broken" in log.getvalue()
    assert SECRET not in log.getvalue()


def _hashes() -> set[str]:
    """Return all hashes of configs that anybody could compute: digests, the last part of check IDs, fingerprints."""
    check_ids = Instance.objects.values_list("check_id", flat=True)
    digests = {*Config.objects.values_list("digest", flat=True), *Move.objects.values_list("digest", flat=True)}
    plain = digests | {check_id.rpartition(":")[2] for check_id in check_ids}
    return {one for one in plain | set(Origin.objects.values_list("fingerprint", flat=True)) if len(one) > 6}


def _hashing(pages: Iterable[Page]) -> dict[str, str]:
    """Return the pages that show such a hash."""
    hashes = _hashes()
    assert hashes
    return {page.url: one for page in pages for one in hashes if one in page.text}


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_whoever_may_not_write_configs_sees_neither_one_nor_its_hash(olga: User, role: Role) -> None:
    for kind in (NodeEvent.Kind.NOT_RUNNING, NodeEvent.Kind.QUARANTINED):
        NodeEvent.objects.create(node_name="ash", kind=kind, cause=f"mysql {Config.objects.earliest('pk').digest}")
    someone = user("vera", role, is_staff=True)
    pages = [*Visitor(someone).pages(), *Visitor(someone).actions()]
    assert {"text/csv; charset=utf-8", "application/json", "text/html; charset=utf-8"} <= {
        page.content_type for page in pages
    }
    assert any("/api/operator/v1/configs/" in page.url and page.status == 200 for page in pages)
    assert not _hashing(pages)
    # A viewer has no form that may show it.
    assert not [page.url for page in pages if role == Role.VIEWER and SECRET in page.text]


def test_a_revision_of_a_source_is_no_hash_that_anybody_could_work_out(olga: User) -> None:
    Source.objects.get_or_create(name="api:shop")
    revision = having(Role.VIEWER).get("sources/shop")["revision"]
    with override_settings(SECRET_KEY="another"):
        assert having(Role.OPERATOR).get("sources/shop")["revision"] != revision


def test_authors_see_digests_and_check_ids_but_no_secret_in_them(olga: User) -> None:
    author = user("arno", Role.AUTHOR, is_staff=True)
    pages = list(Visitor(author).pages())
    assert {one for page in pages for one in _hashes() if one in page.text} > {Config.objects.earliest("pk").digest}
    assert not leaks(pages)


SEARCHED = (
    "/admin/checks/config/?q={}",
    "/admin/checks/move/?q={}",
    "/admin/checks/pin/?q={}",
    "/admin/checks/pause/?q={}",
    "/admin/checks/isolation/?q={}",
    "/admin/checks/rule/?q={}",
    "/admin/nodes/noderule/?q={}",
    "/admin/nodes/nodeevent/?q={}",
    "/admin/search/?q={}",
    "/api/operator/v1/configs?text={}",
    "/api/operator/v1/configs?key={}",
    "/api/operator/v1/configs?check_id={}",
    "/api/operator/v1/configs?digest={}",
    "/api/operator/v1/configs?short_id={}",
    "/api/operator/v1/moves?digest={}",
)


@pytest.fixture
def viewer() -> Client:
    client = Client()
    client.force_login(user("vera", Role.VIEWER, is_staff=True))
    return client


@table("url", SEARCHED)
def test_no_search_tells_whether_a_guess_was_right(olga: User, viewer: Client, url: str) -> None:
    """A right guess and a wrong one of the same length get the same answer."""

    def answered(guess: str) -> str:
        answer = viewer.get(url.format(quote(guess)))
        text = answer.content.decode()
        # A page may say the guess again, also in the address to which a login leads back.
        text = _CHIPS.sub("", text)
        for said in (
            guess,
            escape(guess),
            quote(guess),
            quote(guess, safe=""),
            quote_plus(guess),
            quote(quote(guess), safe=""),
        ):
            text = text.replace(said, "")
        return f"{answer.status_code} {answer.get('Location', '')} {_CHANGING.sub('', text)}"

    config = Config.objects.earliest("pk")
    origin, check_id = config.origins.earliest("pk").key, config.instances.earliest("pk").check_id
    # What pages say of nodes must not change while they are asked, which takes longer than silence does.
    Heartbeat.objects.update(seen_at=Now() + timedelta(hours=1))
    for guess in (SECRET, origin, check_id, config.digest, check_id.rpartition(":")[2], f"user:{SECRET}@db"):
        # Of the same form: a word such as `user:` is an error whatever follows.
        wrong = guess.replace(SECRET, SECRET[::-1]) if SECRET in guess else guess[::-1]
        assert answered(guess) == answered(wrong), guess


def _scraped(**headers: str) -> str:
    return Client().get("/metrics", headers=headers).content.decode()


def test_the_metrics_tell_check_ids_to_bearers_of_a_token_alone(olga: User, monkeypatch: pytest.MonkeyPatch) -> None:
    told = _scraped(**having(Role.VIEWER).headers)
    check_id = Instance.objects.filter(config__assignment__isnull=False).earliest("pk").check_id
    assert f':{check_id.rpartition(":")[2]}"' in told
    monkeypatch.setattr(conf, "METRICS_PUBLIC", True)
    public = _scraped()
    assert "cluster_checks_configs_info" in public
    assert not {one for one in _hashes() if one in public}
    assert SECRET not in told + public
    assert Client().get("/metrics", headers={"Authorization": "Bearer nonsense"}).status_code == 401


def _failing(term: int) -> None:
    raise ValueError(f"DETAIL: Failing row contains (7, password: {SECRET}, https://user:{SECRET}@db)")


def test_no_traceback_shows_one(log: io.StringIO) -> None:
    tasks.run("pass", 1, _failing)
    structlog.get_logger().warning("odd", error=ValueError(f"token={SECRET}"), rows=[{"a": f"password={SECRET}"}])
    logging.getLogger("theirs").warning("can't reach %s", f"https://user:{SECRET}@db")
    assert "Failing row" in log.getvalue()
    assert SECRET not in log.getvalue()


def test_no_message_to_the_webhook_tells_one(olga: User) -> None:
    message = webhook.due(alerts.current())
    assert message is not None
    assert {"failing", "source_error"} <= {one["kind"] for one in message["new"]}
    assert SECRET not in json.dumps(message)


@table(
    "command",
    [
        "clusterchecks", "clusterchecks --json", "syncconfigs", "why {}", "why {} --json", "whatif --remove ash",
        "whatif --remove ash --json", "rebalance --dry-run --force", "pause {}", "resume {} --json", "reassign {} --to birch",
        "isolate {}", "release {}", "expirenodes --force --dry-run", "expirenodes --force", "redispatch --force",
        "syncconfigs --dry-run", "plan list",
    ],
)  # fmt: skip
def test_no_command_prints_one(olga: User, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    check = Instance.objects.filter(config__assignment__isnull=False).earliest("pk")
    name, *words = (word.format(check.shown_id()) for word in command.split(" "))
    with suppress(CommandError, SystemExit):
        call_command(name, *words)
    printed = capsys.readouterr()
    assert printed.out or name in ("expirenodes", "redispatch", "isolate", "release", "pause", "reassign")
    assert SECRET not in printed.out + printed.err


def test_no_table_keeps_one_that_need_not(olga: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
        )
        keep = set()
        for table, column, kind in cursor.fetchall():
            text = f"encode(\"{column}\", 'escape')" if kind == "bytea" else f'"{column}"::text'
            cursor.execute(f'SELECT EXISTS (SELECT FROM "{table}" WHERE {text} LIKE %s)', [f"%{SECRET}%"])
            keep |= {f"{table}.{column}"} if cursor.fetchone()[0] else set()
    assert keep == KEPT
