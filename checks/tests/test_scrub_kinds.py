"""All kinds of secrets in configs, commands, addresses and errors, each beside similar text that is no secret."""

import base64
import json
import random
import secrets
import string
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from checks.sources import fileformat
from checks.wire import patching, scrub, yamlnodes
from checks.wire.patching import IntegrationConfig
from checks.wire.scrub import MASK
from tests.table import table

SECRET = "hunter22"
PUTTY = f"""PuTTY-User-Key-File-3: ssh-ed25519
Encryption: none
Public-Lines: 1
AAAA{SECRET}
Private-Lines: 1
{SECRET}
Private-MAC: 0123456789abcdef"""
PEM = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----"
PEM_IN_BASE64 = base64.b64encode(f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n".encode()).decode()
ESCAPED = json.dumps(json.dumps({"password": SECRET, "x": 1}))
TWICE_ESCAPED = json.dumps(ESCAPED)

PREFIXES = """
ghp_ gho_ ghu_ ghs_ github_pat_ glpat- gldt- xoxb- xoxp- xapp-1- sk_live_ sk_test_ rk_live_ whsec_ sk-ant- npm_ AIza pypi-
dckr_pat_ hvs. SG. shpat_ lin_api_ figd_ NRAK- sntrys_ glsa_ hf_ ya29. dop_v1_ gsk_
"""
HIDDEN = {
    "keys": """
        bindpw: {0}
        bind_pw: {0}
        rootpw={0}
        ssl_key: {0}
        tls_key: {0}
        sslKey: {0}
        hmac: {0}
        hmac_key={0}
        otp: {0}
        totp={0}
        psk: {0}
        pin: {0}
        salt: {0}
        passkey: {0}
        wireguard_key: {0}
        recovery_codes: {0}
        unseal_key_1: {0}
        {{"bindpw": "{0}"}}
        'password' => '{0}'
        password => {0}
        password := {0}
        auth=('user', '{0}')
        authorization=Bearer {0}
        token "{0}" is wrong
        password%3D{0}
        %22password%22%3A%22{0}
        password\\u003d{0}
        mot_de_passe: {0}
        hasło: {0}
        пароль: {0}
        密码: {0}
        {{'ssl_key': '{0}', 'x': 1}}
    """,
    "addresses": """
        https://example.org/x?key={0}
        https://example.org/x?a=1&code={0}&b=2
        https://example.org/x?sig={0}
        https://example.org/x?token={0}
        https://x.logic.azure.com:443/workflows/{0}/triggers/manual
        https://hooks.slack.com/services/T000/B000/{0}
        https://hooks.slack.com/triggers/T000/{0}
        hooks.slack.com/services/{0}
        https://discord.com/api/webhooks/1234/{0}
        https://discordapp.com/api/v10/webhooks/1234/{0}
        https://corp.webhook.office.com/webhookb2/{0}
        https://outlook.office.com/webhook/{0}/IncomingWebhook/x
        https://api.telegram.org/bot123456:{0}/sendMessage
        https://open.feishu.cn/open-apis/bot/v2/hook/{0}
        https://oapi.dingtalk.com/robot/send?access_token={0}
        https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key={0}
        https://maker.ifttt.com/trigger/x/with/key/{0}
        https://events.pagerduty.com/integration/{0}/enqueue
        https://hc-ping.com/{0}
        https://chat.example.org/hooks/{0}
        https://example.org/webhook/{0}
        https://example.org/api/token/{0}/x
        https://user:{0}@example.org/x
        jdbc:oracle:thin:scott/{0}@//db/x
    """,
    "pairs": """
        {{"Name": "DB_PASSWORD", "Value": "{0}"}}
        {{"Value": "{0}", "Name": "DB_PASSWORD"}}
        {{Name: DB_PASSWORD, Value: {0}}}
        {{key: API_KEY, val: {0}}}
        {{'name': 'api_key', 'value': '{0}'}}
        <add key="ApiKey" value="{0}" />
        <property name='password' value='{0}'/>
        name=DB_PASSWORD value={0}
        <password value="{0}"/>
    """,
    "headers": """
        Basic {0}
        sent "Basic {0}"
        bearer {0}
        Authorization: Negotiate {0}
        Splunk {0}
        -H 'X-Api-Key: {0}'
    """,
    "logins and commands": """
        login: user:{0}
        username=user:{0}
        {{"login": "user:{0}"}}
        curl -u user:{0} https://example.org
        curl -uuser:{0} https://example.org
        curl --user 'user:{0}' https://example.org
        curl --proxy-user user:{0} https://example.org
        mysql -p{0} -h db
        mysqldump -uroot -p'{0}' x
        /usr/bin/mysqladmin -u root -p{0} status
        sshpass -p {0} ssh db
        redis-cli -a {0} ping
        sqlcmd -P {0}
        ldapsearch -x -w {0}
        snmpget -v2c -c {0} switch
        sqlplus scott/{0}@db
        smbclient -U user%{0} //x/y
        run --password {0}
        run --password={0}
        run -password {0}
        run --api-token '{0}'
        CREATE USER x IDENTIFIED BY '{0}'
        CREATE USER x IDENTIFIED WITH mysql_native_password BY '{0}'
        CREATE USER x IDENTIFIED BY {0};
        ALTER ROLE x WITH PASSWORD '{0}'
        SET PASSWORD = PASSWORD('{0}')
        docker login -u user -p {0} registry.example.org
        az login --service-principal -p {0}
        machine example.org login user password {0}
        API key: {0}
        bob:$apr1${0}$abcdefgh
        root:$6$salt${0}abcdefgh:19000:0
    """,
    "documents": """
        <password>{0}</password>
        <a:clientSecret x="y">{0}</a:clientSecret>
        <password><![CDATA[{0}]]></password>
        {{\\"password\\": \\"{0}\\"}}
        {{\\\\\\"password\\\\\\": \\\\\\"{0} {0}\\\\\\", \\\\\\"x\\\\\\": 1}}
        line\\npw: {0}
    """,
    "tokens": "\n".join(f"got {prefix}{{0}} x" for prefix in PREFIXES.split()) + "\n got AKIAHUNTER22EXAMPL x",
}


def lines(table: dict[str, str]) -> list[str]:
    return [line.strip().format(SECRET) for part in table.values() for line in part.strip().splitlines()]


def shown(instance: str) -> str:
    """All that is displayed of an instance: the readable text, and the texts of the scrubbed bytes."""
    config = patching.patch(IntegrationConfig("ntp", instances=(instance,)), [])
    return config.text + "".join(base64.b64decode(text).decode() for text in json.loads(config.scrubbed)["instances"])


@table("text", lines(HIDDEN))
@table("form", ["{}", "it failed: {}", "first\n{}\nlast"])
def test_free_text_loses_it(text: str, form: str) -> None:
    assert SECRET not in scrub.scrub(form.format(text)).lower()


@table("text", lines(HIDDEN))
def test_a_value_of_a_config_loses_it(text: str) -> None:
    assert SECRET not in shown(yaml.safe_dump({"query": text, "deep": [{"in": [text]}], text: 1})).lower()


@table("text", [PUTTY, PEM, PEM_IN_BASE64, ESCAPED, TWICE_ESCAPED])
def test_whole_documents_lose_it(text: str) -> None:
    hidden = scrub.scrub(f"x: {text}")
    assert SECRET not in hidden
    assert base64.b64encode(SECRET.encode()).decode()[:8] not in hidden
    assert SECRET not in shown(yaml.safe_dump({"neutral": text}))
    assert PEM_IN_BASE64[30:] not in shown(yaml.safe_dump({"neutral": text}))


@table(
    "instance",
    [
        {"env": [{"Name": "DB_PASSWORD", "Value": SECRET}]},
        {"env": [{"key": "DB_PASSWORD", "val": SECRET}]},
        {"env": [{"value": SECRET, "name": "DB_PASSWORD"}]},
        {"env": [{"ParameterKey": "DbPassword", "ParameterValue": SECRET}]},
        {"headers": [["X-Api-Key", SECRET]]},
        {"headers": {"X-Api-Key": SECRET, "x": ["Basic", SECRET]}},
        {"login": f"user:{SECRET}"},
        {"username": f"user:{SECRET}"},
        {"command": ["mysql", "-uroot", f"-p{SECRET}"]},
        {"command": ["curl", "-u", f"user:{SECRET}"]},
        {"command": ["run", "--password", SECRET]},
        {"command": ["redis-cli", "-a", SECRET]},
        {"ssl_key": SECRET, "tls_key": f"/{SECRET}", "bindpw": [SECRET], "hmac": {"a": SECRET}},
        {"password": f"/etc/{SECRET}.pem"},
        {"url": f"https://hooks.slack.com/services/T0/B0/{SECRET}"},
    ],
)
def test_what_only_the_structure_tells_is_hidden(instance: dict[str, Any]) -> None:
    if instance.get("headers", {}) == {"X-Api-Key": SECRET, "x": ["Basic", SECRET]}:
        instance = {"headers": {"X-Api-Key": SECRET, "Authorization": ["Basic", SECRET]}}
    assert SECRET not in shown(yaml.safe_dump(instance))


VISIBLE: dict[str, Any] = {
    "kerberos_auth": "required",
    "signature_version": "v4",
    "auth_type": "basic",
    "auth_database": "admin",
    "secret_name": "db-credentials",
    "token_path": "/var/run/secrets/token",
    "ssl_key": "/etc/ssl/private/server.key",
    "tls_private_key": "/etc/datadog-agent/certs/client-key.pem",
    "ssh_key": "~/.ssh/id_rsa",
    "private_key": "C:\\certs\\client.pem",
    "key": "value",
    "primary_key": "id",
    "routing_key": "orders.created",
    "max_tokens": 4096,
    "bypass": "always",
    "username": "datadog",
    "user": "system:serviceaccount:monitoring:agent",
    "host": "db-07.eu-west-1.rds.amazonaws.com",
    "balancer": "https://a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6-1234567890.us-east-1.elb.amazonaws.com/health",
    "id": "2c0f9b44-9d53-4f0e-8a5c-0f3a6f1b2c3d",
    "image": "registry.example.org:5000/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "digest": "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "pod": "shop-frontend-7d9f8b6c5d-x2x9z",
    "node": "gke-prod-default-pool-3f2a1b9c-x7kq",
    "vpc": "vpc-0a1b2c3d4e5f67890",
    "arn": "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/my-lb/50dc6c495c0c9188",
    "metric": "prometheus_http_request_duration_seconds_bucket_p99",
    "bean": "kafka.server:type=BrokerTopicMetrics,name=BytesInPerSec",
    "attribute": "Log4j2AppenderFailuresTotalCount",
    "class": "com.zaxxer.hikari.pool.HikariPool-1.ActiveConnections",
    "oid": "1.3.6.1.4.1.2636.3.1.13.1.8",
    "path": "/usr/local/lib/python3.11/site-packages/datadog_checks/base/utils",
    "url": "https://shop.example.org:8443/api/v2/status?verbose=1&format=json",
    "hooks": "https://example.org/webhooks/status",
    "plan": "basic authentication is off",
    "command": "docker run -u 1000:1000 -p 8080:80 app; date -u +%H:%M; mkdir -p /x; mysql -h db -P 3306",
    "query": "SELECT count(*) AS waiting FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = 'orders'",
    "tags": ["env:prod", "team:payments", "version:1.2.3-4f5e6d7c8b9a", "kube_cluster_name:eu-1"],
    "pattern": "^(?:[a-z0-9]+-)*worker-[0-9]{1,3}$",
    "time": "2026-01-01T00:00:00.000000Z",
    "regex": "^/(api|web)/v[0-9]+$",
    "shell": "echo $HOME $1 $2; docker run -p 80:80 x",
    "build": "x86_64-unknown-linux-gnu-1.72.0",
}


@table("key", VISIBLE)
def test_what_is_no_secret_stays(key: str) -> None:
    config = patching.patch(IntegrationConfig("ntp", instances=(yaml.safe_dump({key: VISIBLE[key]}),)), [])
    assert yaml.safe_load(config.text)["instances"][0][key] == VISIBLE[key]
    if isinstance(VISIBLE[key], str) and "ssh_key" not in key:
        assert scrub.scrub(f"x: {VISIBLE[key]}") == f"x: {VISIBLE[key]}"


def examples() -> list[Path]:
    return sorted(Path(__file__).parents[2].joinpath("conf.d").rglob("*.yaml"))


@table("file", examples())
def test_an_ordinary_config_loses_its_passwords_alone(file: Path) -> None:
    """In the samples every secret is a handle or the value of a key that names a secret."""
    config = fileformat.parse(file.read_text(), name="x", source="x")
    for text in (*config.instances, config.init_config, config.logs):
        root = yaml.safe_load(text) if text else None
        hidden = yaml.safe_load(yaml.safe_dump(root))
        node = yamlnodes.read(text) if text else None
        if node is not None:
            scrub.hide(node)
            hidden = yaml.safe_load(yamlnodes.write(node))
        assert _differing(root, hidden) <= {"password", "community_string"}


def _differing(before: Any, after: Any, key: str = "") -> set[str]:
    if isinstance(before, dict):
        return {found for name in before for found in _differing(before[name], after[name], name)}
    if isinstance(before, list):
        return {found for a, b in zip(before, after, strict=True) for found in _differing(a, b, key)}
    return set() if before == after else {key}


DRAWN: list[Callable[[random.Random], str]] = [
    lambda dice: "".join(dice.choices(string.ascii_letters + string.digits, k=32)),
    lambda dice: "".join(dice.choices(string.ascii_lowercase + string.digits, k=40)),
    lambda dice: base64.b64encode(dice.randbytes(30)).decode(),
    lambda dice: base64.urlsafe_b64encode(dice.randbytes(32)).decode().rstrip("="),
    lambda dice: dice.randbytes(32).hex(),
]


@pytest.mark.parametrize("draw", DRAWN)
def test_what_was_drawn_by_chance_is_hidden_beside_a_neutral_key(draw: Callable[[random.Random], str]) -> None:
    """A key that happens to look like a name stays visible: few do."""
    dice = random.Random(7)
    seen = sum(MASK not in scrub.scrub(f"instance: {draw(dice)}") for _ in range(1000))
    assert seen < 50


@given(st.uuids())
def test_a_uuid_stays(number: uuid.UUID) -> None:
    assert scrub.scrub(f"tenant: {number}") == f"tenant: {number}"


@given(st.lists(st.sampled_from([*lines(HIDDEN), *map(str, VISIBLE.values()), " ", "\n", '"', "'", ","]), max_size=6))
def test_nothing_beside_it_brings_it_back(parts: list[str]) -> None:
    """Each on a line of its own, whatever stands around it."""
    assert SECRET not in scrub.scrub("\n".join(part for part in parts if part.strip(" \n\"',"))).lower()


@given(st.text(max_size=200))
def test_what_was_scrubbed_stays_as_it_is(text: str) -> None:
    once = scrub.scrub(scrub.scrub(text))
    assert scrub.scrub(once) == once


PIECES = """
pass|token=|token={|token="|a.|a:/|bearer |eyJaaaaaaaa-|-|--passw |token   |-----BEGIN A-----|pass='"|pass: |x.-
auth_type|@|a@|https://|\\|\\"|pass\\"|"|<a>|<a |<password>|name: password |name=|value=|value="|
Value: x, |https://a/hooks/|https://a/b/|hooks.|?key=|&|basic |basic a|-u a:|-u |--user |mysql -p|mysql |
snmpget -c |identified by |password (|PuTTY-User-Key-File-1|LS0tLS1CRUdJTi|LS0tLS1CRUdJTi aaaaaaaaaaaaaaaa|sqlplus a/|login: a:
user=|user: a|ghp_|sk-a|npm_a|A1b2|a1-|a/|00000000-0000-0000-0000-000000000000-|a.b.|//a.b.|0|=|aB1/|[mysql, |{"name":"
SG.a.|/bot1:|discord.com/api/|name: x, value: y |0123456789abcdef|key: [|key: { |é|$6$a|login a |api key |\x00|%
""".strip("\n")


HOSTILE = [*(piece for piece in PIECES.replace("\n", "|").split("|") if piece.strip()), "token={;", "pass: |\n "]


@table("piece", HOSTILE)
def test_four_times_the_text_takes_four_times_the_time(piece: str) -> None:
    """A pattern that backtracks takes sixteen times as long."""

    def grows_evenly() -> bool:
        small, large = (_seconds(f"@pass{piece * (size // len(piece))}") for size in (1 << 13, 1 << 15))
        return large < min(9 * max(small, 0.003), 0.4)

    assert any(grows_evenly() for _ in range(3))


def test_a_megabyte_of_all_of_them_takes_eight_times_as_long_as_an_eighth() -> None:
    pieces = "".join(piece for piece in PIECES.split("|"))
    small, large = (_seconds(pieces * (size // len(pieces))) for size in (1 << 17, 1 << 20))
    assert large < 20 * small


def _seconds(text: str) -> float:
    began = time.process_time()
    scrub.scrub(text)
    return time.process_time() - began


def test_a_token_of_ours_is_hidden_wherever_it_stands() -> None:
    token = secrets.token_urlsafe(32)
    assert token not in scrub.scrub(f"the text {token} holds it")


@table("key", [f"ghp_{SECRET}", f"npm_{SECRET}", f"https://user:{SECRET}@x", f"token={SECRET}"])
def test_a_key_that_is_a_secret_is_hidden(key: str) -> None:
    assert SECRET not in shown(yaml.safe_dump({key: 1, "deep": {key: {"a": 1}}}))
