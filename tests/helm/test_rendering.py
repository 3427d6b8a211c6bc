"""What the chart renders: as before, safe by default, of kinds and fields that each supported Kubernetes has."""

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.chart import CHART, GOLDEN, VALUES, golden, helm, named, objects, pods, render

ROOT = Path(__file__).parents[2]
BY_NAME = {file.stem: file for file in VALUES}
LEAST, EVERYTHING = BY_NAME["least"], BY_NAME["everything"]
ROLES = ("agents", "operators", "runagent")
MIGRATION = "ca-clusteragent-migrate"
# Of the kinds that the chart has, the fields that came after Kubernetes 1.28.
NEWER = json.loads((Path(__file__).parent / "newer_fields.json").read_text())
VERSIONS = ("1.28.0", "1.31.4", "1.34.0-gke.100", "1.37.2")

by_values = pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)


@by_values
def test_it_is_rendered_as_before(values: Path) -> None:
    # `python -m tests.helm.chart` writes the files anew.
    assert golden(values) == (GOLDEN / values.name).read_text()


@by_values
def test_lint_has_nothing_to_say(values: Path) -> None:
    done = helm("lint", "--strict", "--quiet", str(CHART), "-f", str(values), "--kube-version", "1.37.2")
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@by_values
def test_each_version_of_kubernetes_gets_the_same(values: Path, version: str) -> None:
    assert golden(values, version=version) == golden(values)


def test_an_older_kubernetes_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"requires kubeVersion: >=1\.28"):
        render(LEAST, version="1.27.16")


def paths(value: Any, at: str = "") -> Iterator[str]:
    """The path of each field, without numbers of lists."""
    if isinstance(value, dict):
        for key, inner in value.items():
            path = f"{at}.{key}" if at else key
            yield path
            yield from paths(inner, path)
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, at)


@by_values
def test_no_field_is_newer_than_the_oldest_kubernetes(values: Path) -> None:
    rendered = render(values)
    for name, spec in pods(rendered):
        assert not set(paths(spec)) & set(NEWER["PodSpec"]), name
    for one in objects(rendered):
        assert not set(paths(one)) & set(NEWER.get(f"{one['apiVersion']}/{one['kind']}", [])), one["metadata"]["name"]


@by_values
def test_pods_may_do_no_more_than_they_must(values: Path) -> None:
    # Runners are the vendor's image, which writes into its own folders.
    ours = [(name, spec) for name, spec in pods(render(values)) if not name.endswith("-runners")]
    for name, spec in ours:
        assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]
        assert spec["automountServiceAccountToken"] is (
            name.endswith("-runagent") and values.stem != "without_kubernetes"
        )


def test_secrets_are_in_secrets_alone() -> None:
    rendered = render(BY_NAME["own_secrets"], "--set", "grafanaDashboard.create=true")
    public = [one for one in objects(rendered) if one["kind"] != "Secret"]
    for word in ("correct-horse", "token-of-node-agents"):
        encoded = base64.b64encode(word.encode()).decode().rstrip("=")
        assert not any(word in json.dumps(one) or encoded in json.dumps(one) for one in public), word


def test_the_hash_that_pods_carry_tells_nothing_of_a_secret() -> None:
    def told(rendered: str) -> str:
        pod = named(rendered, "Deployment", "ca-clusteragent-agents")["spec"]["template"]
        return str(pod["metadata"]["annotations"]["checksum/secret"])

    # All that is secret here is given, so only a salt makes the hash of a guess another one.
    first, second = (render(BY_NAME["own_secrets"]) for _ in range(2))
    assert told(first) != told(second)
    values = {
        key: base64.b64decode(text).decode() for key, text in named(first, "Secret", "ca-clusteragent")["data"].items()
    }
    assert told(first) == hashlib.sha256(json.dumps(values, separators=(",", ":"), sort_keys=True).encode()).hexdigest()


def test_files_of_checks_are_mounted_in_their_folders() -> None:
    rendered = render(BY_NAME["own_secrets"])
    secret = named(rendered, "Secret", "ca-clusteragent-confd")["data"]
    spec = dict(pods(rendered))["ca-clusteragent-runagent"]
    items = next(volume for volume in spec["volumes"] if volume["name"] == "confd")["secret"]["items"]
    written = {item["path"]: yaml.safe_load(base64.b64decode(secret[item["key"]])) for item in items}
    assert set(written) == {"http_check.yaml", "postgres.d/orders.yaml"}
    assert written["postgres.d/orders.yaml"]["instances"] == [
        {"host": "orders.example.com", "password": "correct-horse"}
    ]


def test_secrets_that_are_made_are_the_same_in_one_rendering_and_random(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("database: {url: postgresql://db/clusteragent}")
    first, second = render(values), render(values)
    made = named(first, "Secret", "ca-clusteragent")["data"]
    [early] = [one["data"] for one in objects(first) if one["metadata"]["name"] == MIGRATION and "data" in one]
    assert made == early
    assert made != named(second, "Secret", "ca-clusteragent")["data"]
    assert {key: len(base64.b64decode(text)) for key, text in made.items() if "database" not in key and "pem" not in key} == {
        "token": 32, "local-token": 64, "secret-key": 64, "admin-password": 24, "salt": 32,
    }  # fmt: skip


def authority_of(rendered: str, role: str) -> Any:
    """The Secret in which a role's pods have their authority, and the keys of what they read of it; None if they have none."""
    volumes = {one["name"]: one.get("secret") for one in dict(pods(rendered))[f"ca-clusteragent-{role}"]["volumes"]}
    found = volumes.get("ca")
    return found and (found["secretName"], {item["path"]: item["key"] for item in found["items"]})


def test_web_servers_have_one_authority_of_the_charts_making_or_of_a_given_secret(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("database: {url: postgresql://db/clusteragent}")
    made = {"ca.pem": "ca.pem", "ca_key.pem": "ca_key.pem"}
    assert [authority_of(render(values), role) for role in ROLES] == [
        ("ca-clusteragent", made), ("ca-clusteragent", made), None,
    ]  # fmt: skip
    given = render(values, "--set=tls.authorityExistingSecret=ours")
    assert authority_of(given, "agents") == ("ours", {"ca.pem": "tls.crt", "ca_key.pem": "tls.key"})
    # Nothing is made that another rendering would make anew where all else is given, or that nobody needs.
    for rendered in (given, render(LEAST), render(values, "--set=tls.existingSecret=ours")):
        assert "ca_key.pem" not in named_or_none(rendered, "Secret", "ca-clusteragent")
    assert authority_of(render(LEAST), "agents") is None
    assert authority_of(render(values, "--set=tls.existingSecret=ours"), "agents") is None


def named_or_none(rendered: str, kind: str, name: str) -> dict[str, str]:
    """The data of one of the objects; none if it is not there."""
    found = [one for one in objects(rendered) if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found[0]["data"] if found else {}


def test_labels_of_pods_win_over_common_ones() -> None:
    words = ("--set=commonLabels.team=shop,commonLabels.tier=core", "--set=additionalLabels.team=search")
    rendered = render(LEAST, *words)
    for kind, name in [("Deployment", "ca-clusteragent-agents"), ("Job", MIGRATION)]:
        labels = named(rendered, kind, name)["spec"]["template"]["metadata"]["labels"]
        assert (labels["team"], labels["tier"]) == ("search", "core")
    assert rendered.count("team: search") == 4
    assert not re.search(r"team: \S+\n\s+(\S+: \S+\n\s+)*?team: ", rendered)


def test_roles_can_differ() -> None:
    rendered = render(EVERYTHING)
    deployments = {role: named(rendered, "Deployment", f"cluster-checks-{role}")["spec"] for role in ROLES}
    assert [deployments[role]["replicas"] for role in ROLES] == [5, 1, 3]
    budgets = [one["metadata"]["name"] for one in objects(rendered) if one["kind"] == "PodDisruptionBudget"]
    assert budgets == ["cluster-checks-agents", "cluster-checks-runagent"]


def test_what_users_set_in_the_environment_wins() -> None:
    container = dict(pods(render(EVERYTHING)))["cluster-checks-agents"]["containers"][0]
    names = [entry["name"] for entry in container["env"]]
    assert len(names) == len(set(names))
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert values["DD_LOG_LEVEL"] == "trace"
    assert values["CLUSTERAGENT_WEB_WORKERS"] == "4"


def test_runners_are_told_where_we_are_and_who_they_are() -> None:
    rendered = render(BY_NAME["runners"])
    spec = dict(pods(rendered))["ca-clusteragent-runners"]
    entries = {entry["name"]: entry for entry in spec["containers"][0]["env"]}
    assert entries["DD_CLUSTER_AGENT_URL"]["value"] == "https://ca-clusteragent.monitoring.svc:5005"
    assert named(rendered, "Service", "ca-clusteragent")["spec"]["ports"][0]["port"] == 5005
    token = entries["DD_CLUSTER_AGENT_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert token == {"name": "clusteragent-token", "key": "token"}
    assert entries["DD_CLC_RUNNER_ID"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert entries["DD_SITE"]["value"] == "datadoghq.eu"
    goodbye = yaml.safe_load((ROOT / "deploy/kubernetes/goodbye.yaml").read_text())["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == goodbye["terminationGracePeriodSeconds"]
    assert spec["containers"][0]["lifecycle"] == goodbye["containers"][0]["lifecycle"]


def environment(container: dict[str, Any]) -> dict[str, Any]:
    """What a container's variables are: {name: text, or (Secret, key), or where else it comes from}."""
    told = {entry["name"]: entry["value"] if "value" in entry else entry["valueFrom"] for entry in container["env"]}
    return {
        name: (value["secretKeyRef"]["name"], value["secretKeyRef"]["key"]) if "secretKeyRef" in value else value
        for name, value in told.items()
    }


def test_runners_with_node_tokens_are_a_pool_that_the_chart_makes() -> None:
    specs = dict(pods(render(BY_NAME["node_tokens"])))
    runners = environment(specs["ca-clusteragent-runners"]["containers"][0])
    assert runners["DD_CLUSTER_AGENT_AUTH_TOKEN"] == ("runners-tokens", "token")
    of_roles = {role: environment(specs[f"ca-clusteragent-{role}"]["containers"][0]) for role in ROLES}
    assert {own["CLUSTERAGENT_SHARED_TOKEN"] for own in of_roles.values()} == {"off"}
    # Only who asks runners for their stats has them.
    assert [own.get("CLUSTERAGENT_RUNNER_TOKENS") for own in of_roles.values()] == [
        None, None, ("runners-tokens", "tokens"),
    ]  # fmt: skip
    assert environment(specs["ca-clusteragent-test"]["containers"][0])["TOKEN"] == ("runners-tokens", "token")
    job = specs[MIGRATION]
    assert [one["name"] for one in job["initContainers"]] == ["migrate"]
    [stored] = job["containers"]
    assert stored["args"] == [
        "nodetoken", "set", "--note=runners of ca-clusteragent in monitoring", "--nodes=ca-clusteragent-runners-*",
        "--token-file=/etc/clusteragent/nodetokens/tokens", "--until=2027-12-24 08:00",
    ]  # fmt: skip
    mounted = {one["name"]: one["mountPath"] for one in stored["volumeMounts"]}
    volumes = {one["name"]: one for one in job["volumes"]}
    assert mounted["nodetokens"] == "/etc/clusteragent/nodetokens"
    assert volumes["nodetokens"]["secret"] == {
        "secretName": "runners-tokens", "items": [{"key": "tokens", "path": "tokens"}],
    }  # fmt: skip


def test_without_the_shared_token_the_test_of_the_chart_shows_none() -> None:
    spec = dict(pods(render(LEAST, "--set=sharedToken=false")))["ca-clusteragent-test"]
    assert "TOKEN" not in environment(spec["containers"][0])


def test_large_numbers_stay_whole_numbers(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(
        f"{LEAST.read_text()}\nenvDict: {{LIMIT: 10000000, SHARE: 0.05, ACTIVE: true}}\n"
        "migration: {activeDeadlineSeconds: 10000000}\nterminationGracePeriodSeconds: 10000000\n"
    )
    rendered = render(tmp_path / "values.yaml")
    assert named(rendered, "Job", MIGRATION)["spec"]["activeDeadlineSeconds"] == 10_000_000
    spec = dict(pods(rendered))["ca-clusteragent-agents"]
    assert spec["terminationGracePeriodSeconds"] == 10_000_000
    values = {entry["name"]: entry.get("value") for entry in spec["containers"][0]["env"]}
    assert (values["LIMIT"], values["SHARE"], values["ACTIVE"]) == ("10000000", "0.05", "true")


def test_pods_may_all_be_replaced_at_once() -> None:
    rendered = render(LEAST, "--set=strategy.type=Recreate")
    assert named(rendered, "Deployment", "ca-clusteragent-agents")["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("release", ["a" * 53, "shop.example", "my-clusteragent"])
def test_names_of_services_fit_into_dns(release: str) -> None:
    for one in objects(render(LEAST, release=release)):
        if one["kind"] != "CustomResourceDefinition":
            assert re.fullmatch(r"[a-z][a-z0-9-]{0,62}", one["metadata"]["name"].removeprefix("monitoring-"))


def test_the_test_of_the_chart_is_let_in_by_its_policies() -> None:
    policies = [one for one in objects(render(EVERYTHING)) if one["kind"] == "NetworkPolicy"]
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"][-1]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"
    assert len([one for one in policies if "ingress" in one["spec"]]) == 2


def test_only_who_answers_dns_may_be_asked() -> None:
    def asked(*words: str) -> list[Any]:
        policies = [one for one in objects(render(EVERYTHING, *words)) if one["kind"] == "NetworkPolicy"]
        assert len(policies) == 4
        return [policy["spec"]["egress"][0].get("to") for policy in policies]

    namespace, pods_of_dns = {"kubernetes.io/metadata.name": "kube-system"}, {"k8s-app": "kube-dns"}
    own = {"namespaceSelector": {"matchLabels": namespace}, "podSelector": {"matchLabels": pods_of_dns}}
    assert asked() == [[own]] * 4
    cache = {"ipBlock": {"cidr": "169.254.20.10/32"}}
    assert asked(f"--set-json=networkPolicy.dns={json.dumps([cache])}") == [[cache]] * 4
    assert asked("--set-json=networkPolicy.dns=[]") == [None] * 4


def rules(rendered: str) -> list[dict[str, Any]]:
    return next(list(one["rules"]) for one in objects(rendered) if one["kind"] == "ClusterRole")


def test_all_permissions_are_those_of_the_manifest() -> None:
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes/rbac.yaml").read_text())
    assert rules(render(LEAST)) == next(one for one in documents if one["kind"] == "ClusterRole")["rules"]


@pytest.mark.parametrize(
    ("feature", "resources"),
    [
        ("endpoints", {"endpointslices"}),
        ("clusterChecks", {"clusterchecks", "clusterchecks/status"}),
        ("instrumentations", {"datadoginstrumentations", "datadoginstrumentations/status"}),
        ("statuses", {"clusterchecks/status", "datadoginstrumentations/status"}),
        ("events", {"events"}),
    ],
)
def test_a_feature_that_is_off_has_no_permission(feature: str, resources: set[str]) -> None:
    def named_in(rendered: str) -> set[str]:
        return {resource for rule in rules(rendered) for resource in rule["resources"]}

    assert named_in(render(LEAST)) - named_in(render(LEAST, "--set", f"kubernetes.{feature}=false")) == resources


def test_secrets_of_others_are_read_by_namespace_and_name_alone() -> None:
    rendered = render(EVERYTHING)
    assert not any("secrets" in rule["resources"] for rule in rules(rendered))
    role = named(rendered, "Role", "monitoring-cluster-checks-secrets")
    assert role["metadata"]["namespace"] == "shop"
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["db", "cache"]}
    ]


def test_what_is_shipped_beside_the_chart_is_the_same_file() -> None:
    for name, place in [
        ("clusterchecks.yaml", "kubernetes"),
        ("goodbye.yaml", "kubernetes"),
        ("dashboard.json", "grafana"),
        ("alerts.yaml", "grafana"),
    ]:
        assert (ROOT / "deploy" / place / name).resolve() == CHART / "files" / name
    rendered = render(EVERYTHING)
    definition = yaml.safe_load((CHART / "files/clusterchecks.yaml").read_text())
    assert named(rendered, "CustomResourceDefinition", "clusterchecks.clusteragent.dev")["spec"] == definition["spec"]
    dashboard = named(rendered, "ConfigMap", "cluster-checks-dashboard")["data"]["clusteragent.json"]
    assert dashboard == (CHART / "files/dashboard.json").read_text()
    alerts = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    assert without_runbooks(named(rendered, "PrometheusRule", "cluster-checks")["spec"]) == without_runbooks(alerts)


def without_runbooks(spec: Any) -> Any:
    """The rules without what may be elsewhere."""
    for rule in [rule for group in spec["groups"] for rule in group["rules"]]:
        assert rule["annotations"].pop("runbook_url")
    return spec


@pytest.mark.parametrize(
    ("given", "begin"),
    [
        ("adminUrl=https://ca.example.com", "https://ca.example.com/static/docs/troubleshooting.html"),
        ("ingress.enabled=true,ingress.host=ca.example.com", "https://ca.example.com/static/docs/troubleshooting.html"),
        (
            "envDict.CLUSTERAGENT_DOCS_URL=https://docs.example.com/ca/",
            "https://docs.example.com/ca/troubleshooting.html",
        ),
        ("logLevel=info", "docs/troubleshooting.md"),
    ],
)
def test_alerts_lead_to_the_documentation_that_operators_reach(given: str, begin: str) -> None:
    rendered = render(LEAST, "--set=prometheusRule.create=true", f"--set={given}")
    groups = named(rendered, "PrometheusRule", "ca-clusteragent")["spec"]["groups"]
    told = {rule["alert"]: rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"]}
    assert told == {name: f"{begin}#{name.lower()}" for name in told}
    assert told


def test_a_package_has_all_files(tmp_path: Path) -> None:
    assert helm("package", str(CHART), "-d", str(tmp_path)).returncode == 0
    listed = subprocess.run(["tar", "-tzf", *tmp_path.glob("*.tgz")], capture_output=True, text=True, check=True)
    own = {f"clusteragent/{file.relative_to(CHART)}" for file in CHART.rglob("*") if file.is_file()}
    assert own - {"clusteragent/.helmignore"} <= set(listed.stdout.split())
