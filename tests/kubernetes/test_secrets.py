"""Secrets of a real cluster, read with the permissions of roles: for their own namespace, and again when they are rotated."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from checks.models import Config, Move
from checks.sources import files
from checks.sources.kubernetes import secretreader
from checks.tests.cast import owners
from clusteragent.lib import conf
from tests.kubernetes.cluster import Cluster, Namespace
from tests.kubernetes.test_source import (
    LISTS,
    LISTS_SLICES,
    ROOT,
    SERVICE,
    TELLS,
    Following,
    following,
    row,
    shop,
    texts,
    untouched,
    wait_for_key,
    wait_for_text,
)
from tests.replicas import wait_for

__all__ = ["following", "shop"]

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("warm", "resolved"),
]

VALUE, OTHER = "correct horse: 7", "battery staple"
RBAC = "rbac.authorization.k8s.io/v1"


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "KUBERNETES_SECRETS", True)
    monkeypatch.setattr(secretreader, "AGAIN", 0.2)
    monkeypatch.setattr(secretreader, "SOON", 0.2)


def handle(namespace: Namespace, key: str = "key") -> str:
    return f"ENC[k8s_secret@{namespace.name}/db/{key}]"


def naming(*handles: str) -> str:
    """An annotation with a check whose fields are these handles."""
    fields = {f"field{number}": each for number, each in enumerate(handles)}
    return json.dumps({"http_check": {"instances": [{"url": "http://%%host%%", **fields}]}})


def put_secret(namespace: Namespace, **values: str | bytes) -> None:
    """Make the Secret db, or change it."""
    data = {
        key: base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()
        for key, value in values.items()
    }
    listed = namespace.cluster.call("GET", namespace.path("secrets"))["items"]
    if any(one["metadata"]["name"] == "db" for one in listed):
        namespace.cluster.call("PATCH", namespace.path("secrets", "db"), {"data": data})
    else:
        namespace.cluster.call("POST", namespace.path("secrets"), {"metadata": {"name": "db"}, "data": data})


def grant(namespace: Namespace, account: str) -> None:
    """Let a ServiceAccount of the namespace read its Secret db, by the role that the documentation has."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/kubernetes.md").read_text(), re.DOTALL)
    [block] = [each for each in blocks if "kind: Role" in each]
    role, binding = yaml.safe_load_all(block)
    for one in (role, binding):
        one["metadata"]["namespace"] = namespace.name
    binding["subjects"][0] |= {"name": account, "namespace": namespace.name}
    namespace.cluster.call("POST", namespace.path("roles", group=RBAC), role)
    namespace.cluster.call("POST", namespace.path("rolebindings", group=RBAC), binding)


def sent() -> list[str]:
    """What node agents get of all instances, as texts."""
    configs = [json.loads(bytes(wire)) for wire in Config.objects.order_by("pk").values_list("wire", flat=True)]
    return [base64.b64decode(text).decode() for config in configs for text in config["instances"]]


def wait_until_sent(text: str) -> None:
    wait_for("it is sent", lambda: any(text in one for one in sent()))


def wait_for_problem(text: str) -> None:
    wait_for(text, lambda: [one for one in row().errors if text in one["error"]])


def test_a_secret_is_sent_once_it_may_be_read_and_again_when_it_is_rotated(
    cluster: Cluster, shop: Namespace, following: Callable[..., Following]
) -> None:
    key = f"service/{shop.name}/web/http_check"
    shop.service("web", {SERVICE: naming(handle(shop), handle(shop, "second"))})
    following(cluster.account(shop.name, "agent", LISTS, LISTS_SLICES, TELLS))
    wait_for_problem(f"agent may not get secrets in namespace {shop.name}: it needs a role with")
    events = wait_for("an event", shop.problems)
    assert events[0]["message"].startswith(f"{SERVICE}, http_check: Secret {shop.name}/db can't be read: ")
    assert not owners()
    grant(shop, "agent")
    wait_for_problem(f"there is no Secret {shop.name}/db")
    put_secret(shop, key=VALUE)
    wait_for_problem(f"Secret {shop.name}/db has no key second")
    put_secret(shop, second=OTHER)
    wait_for_key(key)
    owner = owners()[key]
    assert f"field0: '{VALUE}'" in sent()[0]
    assert f"field1: {OTHER}" in sent()[0]
    wait_for("nothing is wrong any more", lambda: not row().errors)
    put_secret(shop, key="rotated", second="too")
    wait_until_sent("field0: rotated\nfield1: too\n")
    assert owners() == {key: owner}
    assert [move.reason for move in Move.objects.order_by("pk")] == ["scheduled", "changed"]
    assert [text.count(handle(shop)) for text in texts()] == [1]


def test_a_secret_that_is_gone_or_forbidden_keeps_what_was_sent(
    cluster: Cluster, shop: Namespace, following: Callable[..., Following]
) -> None:
    put_secret(shop, key=VALUE)
    shop.service("web", {SERVICE: naming(handle(shop))})
    token = cluster.account(shop.name, "agent", LISTS, LISTS_SLICES, TELLS)
    grant(shop, "agent")
    following(token)
    wait_until_sent(VALUE)
    before = untouched()
    put_secret(shop, key=b"\xff\x00")
    wait_for_problem(f"key key of Secret {shop.name}/db is no text in UTF-8")
    shop.delete("secrets", "db")
    wait_for_problem(f"there is no Secret {shop.name}/db")
    shop.delete("roles", "clusteragent-secrets", RBAC)
    wait_for_problem("may not get secrets")
    assert untouched() == before


def test_a_service_does_not_get_what_only_we_may_read(
    cluster: Cluster, shop: Namespace, following: Callable[..., Following]
) -> None:
    bank = cluster.namespace()
    put_secret(bank, key=VALUE)
    shop.service("web", {SERVICE: naming(handle(bank))})
    following()
    wait_for_problem(f"Secret {bank.name}/db is of another namespace: only those of {shop.name} may be named here")
    assert not owners()


def test_a_restart_and_an_api_server_that_is_away_change_nothing(
    cluster: Cluster, shop: Namespace, following: Callable[..., Following]
) -> None:
    put_secret(shop, key=VALUE)
    shop.service("web", {SERVICE: naming(handle(shop))})
    first = following()
    wait_until_sent(VALUE)
    before = untouched()
    cluster.stop_apiserver()
    wait_for("it is seen", lambda: row().state["phase"] == "away")
    cluster.start()
    first.end()
    following()
    shop.service("last", {SERVICE: naming(handle(shop), "last")})
    wait_for_text("last")
    assert untouched()["configs"][:1] == before["configs"]
    assert untouched()["moves"] == before["moves"] + 1
    assert row().errors == []
    put_secret(shop, key=OTHER)
    wait_for("both are changed", lambda: sum(OTHER in one for one in sent()) == 2)


def test_without_the_option_handles_pass_through(
    shop: Namespace, following: Callable[..., Following], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "KUBERNETES_SECRETS", False)
    put_secret(shop, key=VALUE)
    shop.service("web", {SERVICE: naming(handle(shop))})
    following()
    wait_until_sent(f"field0: {handle(shop)}\n")


def test_a_file_names_secrets_of_any_namespace(
    cluster: Cluster,
    shop: Namespace,
    following: Callable[..., Following],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bank = cluster.namespace()
    put_secret(bank, key=VALUE)
    folder = tmp_path / "conf.d"
    folder.mkdir()
    monkeypatch.setattr(conf, "CONFD", (folder,))
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    (folder / "tcp_check.yaml").write_text(
        f'cluster_check: true\ninstances: [{{host: "%%host%%", a: "{handle(bank)}"}}]\nadvanced_ad_identifiers:\n'
        f"- kube_service: {{name: web, namespace: {shop.name}}}\n"
    )
    shop.service("web")
    following()
    wait_until_sent(f"a: '{VALUE}'")
