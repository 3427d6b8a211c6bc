"""Values: documented, and refused by name where they are wrong."""

import json
from pathlib import Path

import pytest
import yaml

from tests.helm.chart import CHART, VALUES, template

LEAST = next(file for file in VALUES if file.stem == "least")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("replicas=two", "'/replicas': got string, want integer"),
        ("image.tga=1", "'/image': additional properties 'tga' not allowed"),
        ("replica=3", "additional properties 'replica' not allowed"),
        ("database.url=mysql://db/x", "'/database/url'"),
        ("token=short", "'/token'"),
        ("sharedToken=maybe", "'/sharedToken': got string, want boolean"),
        ("kubernetes.secrets[0].namespace=shop", "'/kubernetes/secrets/0': missing property 'names'"),
        ("kubernetes.secrets[0].namespace=shop,kubernetes.secrets[0].names={}", "'/kubernetes/secrets/0/names"),
        ("commonLabels.app\\.kubernetes\\.io/name=x", "'/commonLabels/app.kubernetes.io~1name'"),
        ("agents.image=x", "'/agents': additional properties 'image' not allowed"),
        ("confd.http_check=x", "'/confd': additional properties 'http_check' not allowed"),
        (
            "advancedConfd.http_check\\.d.shop=x",
            "'/advancedConfd/http_check.d': additional properties 'shop' not allowed",
        ),
        ("adminUrl=http://ca.example.com", "'/adminUrl'"),
        ("logLevel=loud", "'/logLevel'"),
        ("kubernetes=null", "missing property 'kubernetes'"),
        ("agents=null", "missing property 'agents'"),
        ("service.operators=null", "'/service': missing property 'operators'"),
        ("serviceMonitor.labels.app\\.kubernetes\\.io/name=x", "'/serviceMonitor/labels/app.kubernetes.io~1name'"),
        ("pdb.maxUnavailable=most", "'/pdb/maxUnavailable'"),
        ("image.repository=registry.example.com/clusteragent:1.2", "'/image/repository'"),
        ("image.repository=registry.example.com/", "'/image/repository'"),
        ("clusterChecksRunner.image.repository=datadog/agent:7", "'/clusterChecksRunner/image/repository'"),
    ],
)
def test_a_wrong_value_is_refused_by_name(given: str, named: str) -> None:
    done = template(LEAST, "--set", given)
    assert done.returncode == 1
    assert named in done.stderr


def test_without_a_database_it_is_told_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("replicas: 1")
    done = template(tmp_path / "values.yaml")
    assert done.returncode == 1
    assert "database.existingSecret is missing: the name of a Secret with the URL of a PostgreSQL" in done.stderr


def test_an_ingress_without_a_host_is_refused() -> None:
    done = template(LEAST, "--set", "ingress.enabled=true")
    assert done.returncode == 1
    assert "ingress.host is missing" in done.stderr


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("serviceMonitor.create=true", "serviceMonitor.tokenSecret is missing"),
        ("clusterChecksRunner.enabled=true", "clusterChecksRunner.apiKeyExistingSecret is missing"),
        (
            "clusterChecksRunner.enabled=true,clusterChecksRunner.apiKeyExistingSecret=key,sharedToken=false",
            "sharedToken is false, so runners need clusterChecksRunner.nodeTokensExistingSecret",
        ),
        ("drainSeconds=40", "drainSeconds is 40: a pod of agents would be killed"),
        (
            "tls.existingSecret=a,tls.authorityExistingSecret=b",
            "tls.authorityExistingSecret is given beside tls.existingSecret",
        ),
        ("database.url=postgresql://db/x", "database.url is given beside database.existingSecret"),
        (
            "kubernetes.secrets[0].namespace=shop,kubernetes.secrets[0].names={a},"
            "kubernetes.secrets[1].namespace=shop,kubernetes.secrets[1].names={b}",
            "the namespace shop is there twice",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(given: str, told: str) -> None:
    done = template(LEAST, "--set", given)
    assert done.returncode == 1
    assert told in done.stderr


@pytest.mark.parametrize("repository", ["clusteragent", "registry.example.com:5000/team/cluster-agent", "a/b_c"])
def test_names_of_images_are_taken(repository: str) -> None:
    assert template(LEAST, "--set", f"image.repository={repository}").returncode == 0


def test_the_schema_has_each_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) - {"global"} == set(values)
    for name, inner in values.items():
        if "properties" in schema["properties"][name] and isinstance(inner, dict):
            assert set(schema["properties"][name]["properties"]) >= set(inner), name
