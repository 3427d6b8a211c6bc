"""Objects of a real API server, and the configs that the Datadog Cluster Agent makes of them."""

import base64
import json
from pathlib import Path
from typing import Any

from checks.sources.kubernetes.configs import Made
from checks.tests.kubernetes.cast import made_of, problems
from checks.wire.patching import IntegrationConfig, patch
from tests.table import table

DATA = Path(__file__).parents[3] / "tests" / "data" / "kubernetes" / "vectors.json"
VECTORS = json.loads(DATA.read_text())
EXTRA_TAGS = ("cluster_name:prod", "kube_cluster_name:prod")


def made(vector: dict[str, Any]) -> Made:
    of_service, *slices = vector["objects"]
    return made_of(of_service, *slices)


def sent(config: IntegrationConfig) -> dict[str, Any]:
    body = json.loads(patch(config, EXTRA_TAGS).wire)
    decoded = {"init_config": base64.b64decode(body["init_config"]).decode()}
    instances = [base64.b64decode(text).decode() for text in body["instances"]]
    return {**body, **decoded, "instances": instances}


@table("vector", VECTORS)
def test_objects_make_the_peers_configs(vector):
    expected = [IntegrationConfig.from_json(each["config"]) for each in vector["configs"]]
    assert list(made(vector).configs.values()) == expected


@table("vector", VECTORS)
def test_node_agents_get_the_peers_bytes(vector):
    assert [sent(config) for config in made(vector).configs.values()] == [each["sent"] for each in vector["configs"]]


@table("vector", [vector for vector in VECTORS if not vector["configs"]])
def test_where_there_is_no_config_there_is_a_problem_or_an_exclude(vector):
    excluded = "ad.datadoghq.com/exclude" in vector["objects"][0]["metadata"]["annotations"]
    assert bool(problems(made(vector))) != excluded
