"""The chart in a real API server: installed, upgraded, rolled back and uninstalled by a real helm.

No controller runs, so the tests play those of Jobs and Deployments where helm waits for them.
"""

import base64
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.helm.chart import CHART, VALUES, helm, pods, render
from tests.helm.programs import HELM
from tests.kubernetes.cluster import Cluster, Namespace, Object, Refused
from tests.kubernetes.conftest import require
from tests.replicas import wait_for

LEAST, EVERYTHING = (next(file for file in VALUES if file.stem == stem) for stem in ("least", "everything"))
# Only the test of the definition makes it: the API server takes its time to forget one.
URL = "--set=crds.create=false,database.url=postgresql://app:one@db/clusteragent"
ROLES = ("agents", "operators", "runagent")
APPS, BATCH = "apps/v1", "batch/v1"
MIGRATION = "ca-clusteragent-migrate"


class Release:
    """A release of the chart in a namespace of its own, and helm for it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.namespace = cluster, cluster.namespace()
        self._folder = folder
        self.chart = str(shutil.copytree(CHART, folder / "chart"))
        # The API server of tests was built without its version, so it says that it is 0.0.0.
        told = (CHART / "Chart.yaml").read_text().splitlines(keepends=True)
        (folder / "chart/Chart.yaml").write_text("".join(line for line in told if "kubeVersion" not in line))
        self._config = cluster.kubeconfig(folder / "kubeconfig")

    @contextmanager
    def started(self, verb: str, *words: str) -> "Iterator[subprocess.Popen[str]]":
        """Run helm, as a process that the kernel ends with the test."""
        command = ["setpriv", "--pdeathsig", "KILL", "--", str(require(HELM) / "helm"), verb, "ca", *words]
        homes = {f"HELM_{kind}_HOME": str(self._folder) for kind in ("CACHE", "CONFIG", "DATA")}
        with subprocess.Popen(
            [*command, "-n", self.namespace.name, "--kubeconfig", str(self._config), "--timeout", "60s"],
            env={"PATH": "/usr/bin:/bin", "HOME": str(self._folder), **homes},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, verb: str, *words: str, migrates: str = "") -> str:
        """Run helm to its end, and be the controller of its Job. migrates: Complete or Failed, or empty if there is no Job."""
        with self.started(verb, *words) as process:
            if migrates:
                self.end(self.migration(process), migrates)
            out, err = process.communicate(timeout=90)
        assert process.returncode == (1 if migrates == "Failed" else 0), out + err
        return out + err

    def migration(self, process: "subprocess.Popen[str]") -> Object:
        """Return the migration's Job once helm has made it, while helm waits for its end."""

        def job() -> Object | None:
            assert process.poll() is None, process.communicate()
            found = self.get("jobs", MIGRATION, BATCH)
            # One that failed before has an end.
            return found if found and not found["status"].get("conditions") else None

        return wait_for("the Job is there", job)

    def end(self, job: Object, condition: str) -> None:
        """Let a Job end, as the controller does. condition: Complete or Failed."""
        now = job["metadata"]["creationTimestamp"]
        kinds = {"Complete": ("SuccessCriteriaMet", "Complete"), "Failed": ("FailureTarget", "Failed")}[condition]
        conditions = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds]
        done = {"completionTime": now, "succeeded": 1} if condition == "Complete" else {}
        status = {"startTime": now, "conditions": conditions, **done}
        self.cluster.call("PATCH", self.namespace.path("jobs", f"{MIGRATION}/status", BATCH), {"status": status})

    def get(self, plural: str, name: str, group: str = "v1") -> Object | None:
        """Return an object, or None."""
        try:
            return self.cluster.call("GET", self.namespace.path(plural, name, group))
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def allows(self, account: str, verb: str, resource: str, **attributes: str) -> bool:
        """Return whether a ServiceAccount of the namespace may do something."""
        wanted = {"verb": verb, "resource": resource, "namespace": self.namespace.name} | attributes
        review = {"user": f"system:serviceaccount:{self.namespace.name}:{account}", "resourceAttributes": wanted}
        answer = self.cluster.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": review})
        return bool(answer["status"]["allowed"])

    def secret(self, name: str = "ca-clusteragent") -> dict[str, str]:
        """What the chart's Secret holds."""
        found = self.get("secrets", name)
        assert found
        return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}

    def replicas(self) -> list[int]:
        """How many pods each role should have."""
        found = [self.get("deployments", f"ca-clusteragent-{role}", APPS) for role in ROLES]
        return [one["spec"]["replicas"] for one in found if one]

    def checksum(self) -> str:
        """What makes pods of agents start anew when secrets change."""
        found = self.get("deployments", "ca-clusteragent-agents", APPS)
        assert found
        return str(found["spec"]["template"]["metadata"]["annotations"]["checksum/secret"])


@pytest.fixture
def release(cluster: Cluster, tmp_path: Path) -> Iterator[Release]:
    """A namespace for a release. Nothing that belongs to the cluster is left."""
    release = Release(cluster, tmp_path)
    yield release
    cluster.kubectl("delete", "crd", "clusterchecks.clusteragent.dev", "--ignore-not-found")
    for kind in ("clusterrolebindings", "clusterroles"):
        cluster.kubectl("delete", kind, "-l", "helm.sh/chart", "--ignore-not-found")


def test_from_an_installation_to_its_end(release: Release) -> None:
    release.run("install", release.chart, URL, migrates="Complete")
    made, checksum = release.secret(), release.checksum()
    assert made["database-url"] == "postgresql://app:one@db/clusteragent"
    assert release.replicas() == [2, 2, 2]
    # What only the migration needed is gone.
    assert not release.get("secrets", MIGRATION)
    assert not release.get("jobs", MIGRATION, BATCH)

    # Nothing that was made is made anew, and no pod starts anew for it.
    release.run("upgrade", release.chart, URL, "--set=replicas=3", migrates="Complete")
    assert (release.secret(), release.checksum(), release.replicas()) == (made, checksum, [3, 3, 3])

    release.run("upgrade", release.chart, URL.replace("one", "two"), migrates="Complete")
    assert release.secret() == made | {"database-url": "postgresql://app:two@db/clusteragent"}
    assert release.checksum() != checksum

    # Going back runs no migration: the older version works with the newer schema.
    release.run("rollback", "1")
    assert (release.secret(), release.checksum(), release.replicas()) == (made, checksum, [2, 2, 2])

    release.run("uninstall")
    assert release.replicas() == []
    assert release.secret() == made
    # Installed anew, it has the same tokens, as the database has the same operators.
    release.run("install", release.chart, URL, migrates="Complete")
    assert release.secret() == made


def test_an_installation_that_fails_behind_its_migration_is_repeated_with_the_same_secrets(release: Release) -> None:
    """The database has the first operator then, with the password of the first time."""
    path = release.namespace.path("resourcequotas")
    release.cluster.call("POST", path, {"metadata": {"name": "own"}, "spec": {"hard": {"count/secrets": "100"}}})

    def allow(secrets: int) -> None:
        """Let the namespace have so many Secrets, as the controller of quotas does."""
        status = {"hard": {"count/secrets": str(secrets)}, "used": {"count/secrets": "0"}}
        release.cluster.call("PATCH", f"{path}/own/status", {"status": status})
        wait_for("the API server knows", lambda: can_make_one() == (secrets > 0))

    def can_make_one() -> bool:
        try:
            secret = {"metadata": {"name": "one"}}
            release.cluster.call("POST", f"{release.namespace.path('secrets')}?dryRun=All", secret)
        except Refused:
            return False
        return True

    allow(100)
    with release.started("install", release.chart, URL) as install:
        job = release.migration(install)
        allow(0)
        release.end(job, "Complete")
        out, err = install.communicate(timeout=90)
    assert install.returncode == 1, out + err
    assert 'secrets "ca-clusteragent" is forbidden' in err
    made = release.secret(MIGRATION)
    allow(100)

    release.run("uninstall")
    # It may fail again, and be repeated otherwise.
    release.run("install", release.chart, URL, migrates="Failed")
    assert release.secret(MIGRATION) == made
    release.run("upgrade", release.chart, URL, "--install", migrates="Complete")
    assert release.secret() == made
    assert not release.get("secrets", MIGRATION)


def test_the_definition_is_upgraded_and_stays_with_its_objects(release: Release) -> None:
    words = (f"--values={LEAST}", "--set=migration.enabled=false")
    release.run("install", release.chart, *words)
    release.cluster.kubectl("wait", "--for=condition=Established", "crd/clusterchecks.clusteragent.dev")
    version = "clusteragent.dev/v1alpha1"
    spec = {"check": "postgres", "instances": [{"host": "db"}]}
    declared = {"apiVersion": version, "kind": "ClusterCheck", "metadata": {"name": "orders"}, "spec": spec}
    path = release.namespace.path("clusterchecks", group=version)
    release.cluster.call("POST", path, declared)

    file = Path(release.chart) / "files/clusterchecks.yaml"
    file.write_text(file.read_text().replace("name: Override", "name: Ordered"))
    release.run("upgrade", release.chart, *words)
    assert "name: Ordered" in release.cluster.kubectl("get", "crd", "clusterchecks.clusteragent.dev", "-o", "yaml")
    release.run("uninstall")
    assert release.cluster.call("GET", f"{path}/orders")["spec"] == spec


def test_a_migration_that_fails_leaves_what_runs_alone(release: Release) -> None:
    release.run("install", release.chart, URL, migrates="Complete")
    told = release.run("upgrade", release.chart, URL, "--set=replicas=5", migrates="Failed")
    assert "pre-upgrade hooks failed" in told
    assert release.replicas() == [2, 2, 2]
    # For its log.
    assert release.get("jobs", MIGRATION, BATCH)
    release.run("upgrade", release.chart, URL, "--set=replicas=5", migrates="Complete")
    assert release.replicas() == [5, 5, 5]


def test_old_replicas_are_there_while_the_new_version_migrates(release: Release) -> None:
    release.run("install", release.chart, URL, migrates="Complete")
    with release.started("upgrade", release.chart, URL, "--set=image.tag=9.9.9", "--set=replicas=4") as upgrade:
        job = release.migration(upgrade)
        assert release.replicas() == [2, 2, 2]
        assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "clusteragent:9.9.9"
        release.end(job, "Complete")
        upgrade.communicate(timeout=90)
    assert release.replicas() == [4, 4, 4]


def test_the_first_migration_runs_under_its_own_policy(release: Release) -> None:
    words = ("--set=networkPolicy.create=true", '--set-json=networkPolicy.egress=[{"ports": [{"port": 5432}]}]')
    group = "networking.k8s.io/v1"
    with release.started("install", release.chart, URL, *words) as install:
        job = release.migration(install)
        policy = release.get("networkpolicies", MIGRATION, group)
        assert policy
        labels = job["spec"]["template"]["metadata"]["labels"]
        assert labels.items() >= policy["spec"]["podSelector"]["matchLabels"].items()
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        release.end(job, "Complete")
        install.communicate(timeout=90)
    assert not release.get("networkpolicies", MIGRATION, group)
    assert release.get("networkpolicies", "ca-clusteragent-agents", group)


@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_the_api_server_knows_each_field(cluster: Cluster, namespace: Namespace, values: Path, tmp_path: Path) -> None:
    done = helm("template", "ca", str(CHART), "-f", str(values), "-n", namespace.name, "--kube-version", "1.37.0")
    kinds = {"ServiceMonitor", "PrometheusRule"}
    known = [one for one in yaml.safe_load_all(done.stdout) if one and one["kind"] not in kinds]
    # A dry run makes no namespaces, and the Roles are for one of others.
    for one in known:
        if "namespace" in one["metadata"]:
            one["metadata"]["namespace"] = namespace.name
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(known))
    words = ("--server-side", "--dry-run=server", "--validate=strict", "-f", str(tmp_path / "all.yaml"))
    assert len(cluster.kubectl("apply", *words).splitlines()) == len(known)


@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_pods_are_let_into_a_restricted_namespace(cluster: Cluster, namespace: Namespace, values: Path) -> None:
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    cluster.call("PATCH", f"/api/v1/namespaces/{namespace.name}", labels)
    for name in ("default", "reader", "ca-clusteragent"):
        cluster.call("POST", namespace.path("serviceaccounts"), {"metadata": {"name": name}})
    # Runners are the vendor's image, which runs as root.
    ours = [(name, spec) for name, spec in pods(render(values)) if not name.endswith("-runners")]
    for name, spec in ours:
        spec.pop("priorityClassName", None)
        pod = {"metadata": {"name": name}, "spec": spec | {"restartPolicy": "Never"}}
        path = f"{namespace.path('pods')}?dryRun=All&fieldValidation=Strict"
        assert cluster.call("POST", path, pod)["metadata"]["name"] == name
    # Without what the chart sets it would be refused.
    del spec["securityContext"]
    with pytest.raises(Refused, match="violates PodSecurity"):
        cluster.call("POST", path, pod | {"spec": spec})


def test_values_of_a_release_take_what_is_there_as_it_is(release: Release) -> None:
    """Each value otherwise than by default, and Prometheus' operator is there."""
    cluster = release.cluster
    for kind, plural in [("ServiceMonitor", "servicemonitors"), ("PrometheusRule", "prometheusrules")]:
        cluster.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition(kind, plural))
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{plural}.monitoring.coreos.com")
    cluster.kubectl("create", "namespace", "shop")
    try:
        words = ("--set=migration.enabled=false,crds.create=false", f"--values={EVERYTHING}")
        told = release.run("install", release.chart, *words)
        assert "https://ca.example.com" in told
        assert "serviceName: datadog-cluster-agent" in told
        assert "tokenSecretName: clusteragent-token" in told
        assert release.allows("reader", "list", "services")
        assert release.allows("reader", "patch", "clusterchecks", group="clusteragent.dev", subresource="status")
        assert release.allows("reader", "get", "secrets", namespace="shop", name="db")
        for refused in ({"namespace": "shop", "name": "other"}, {"name": "db"}, {"namespace": "shop"}):
            assert not release.allows("reader", "get", "secrets", **refused)
        release.run("uninstall")
    finally:
        cluster.kubectl("delete", "namespace", "shop", "--wait=false")
        cluster.kubectl(
            "delete", "crd", "servicemonitors.monitoring.coreos.com", "prometheusrules.monitoring.coreos.com"
        )


def definition(kind: str, plural: str) -> Object:
    """A resource of Prometheus' operator, with any fields."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "metadata": {"name": f"{plural}.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
