"""`clusteragent doctor` asks the API server for the permissions of each feature."""

from pathlib import Path

import pytest
import yaml

from clusteragent import doctor
from clusteragent.doctor import Level
from clusteragent.lib import conf
from tests.kubernetes.cluster import Cluster, Namespace
from tests.test_requirements import ROOT

pytestmark = [pytest.mark.kubernetes, pytest.mark.processes]


def test_a_feature_without_permission_is_named(
    cluster: Cluster, namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes/rbac.yaml").read_text())
    [role] = [one for one in documents if one["kind"] == "ClusterRole"]
    less = [rule for rule in role["rules"] if rule["resources"] != ["clusterchecks/status"]]
    monkeypatch.setattr(conf, "KUBERNETES", "on")

    def found(token: str) -> list[tuple[Level, str]]:
        monkeypatch.setattr(conf, "KUBECONFIG", cluster.kubeconfig(tmp_path / "kubeconfig", token))
        return [(finding.level, finding.text) for finding in doctor.kubernetes()]

    assert found(cluster.account(namespace.name, "whole", *role["rules"])) == [
        (Level.OK, "The API server allows what every feature needs.")
    ]
    assert found(cluster.account(namespace.name, "less", *less)) == [
        (Level.WARN, "No permission for the status of ClusterChecks: patch clusterchecks/status.")
    ]
    levels = [level for level, _ in found(cluster.account(namespace.name, "none"))]
    assert levels == [Level.FAIL, *[Level.WARN] * (len(doctor.features()) - 1)]
    [(level, text)] = found("no-such-token")
    assert level == Level.FAIL
    assert text
