"""What is sent for thousands of annotations are the bytes of the Datadog Cluster Agent.

The reference is a program in Go (`tests/data/kubernetes/reference`), with the libraries that the Cluster Agent uses.
"""

import base64
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from checks.sources.kubernetes import configs
from checks.sources.kubernetes.configs import Options
from checks.sources.kubernetes.objects import Port, Service
from checks.wire.patching import UnpatchableConfig, patch

TOLD = Path(__file__).parents[3] / "tests" / "data" / "kubernetes" / "annotations.jsonl.gz"
Sent = dict[str, dict[str, Any]]
# Where this program differs on purpose, or can't do otherwise: what the annotation holds, what the peer sends, and why.
DIFFERENCES = [
    ("", "%%left%%", "the peer leaves %%host%% where an IPv6 address stands in what is no URL"),
    ("", "^json: cannot unmarshal", "a value that is given again with the right type is read"),
    (r'\\/"', "", "JSON's escape of a slash is read in init_config, as JSON's other escapes are"),
    (r'"name": "\\u0000"', "", "the database holds no NUL"),
    ("-1e-400", "", "the peer writes init_config once: what it reads of its `-0` it would write as `0`"),
    ('"<<"', "", "a merge key is merged before it is sent, and node agents do it when they read it"),
]


def reference() -> Iterator[dict[str, Any]]:
    with gzip.open(TOLD, "rt") as lines:
        yield from map(json.loads, lines)


def ours(told: dict[str, Any]) -> Sent:
    ports = tuple(Port(port["number"], port["name"]) for port in told["ports"])
    annotations = {"ad.datadoghq.com/service.checks": told["checks"]}
    made = configs.make(Service("shop", "web", annotations, cluster_ip=told["host"], ports=ports), [], Options())
    found = {}
    for key, config in made.configs.items():
        try:
            body = json.loads(patch(config, ()).wire)
        except UnpatchableConfig:
            continue
        instances = [base64.b64decode(text).decode() for text in body["instances"]]
        # What agents read as null is null here from the start.
        init_config = (
            config.init_config if body["init_config"] is None else base64.b64decode(body["init_config"]).decode()
        )
        found[key.removeprefix("service/shop/web/")] = {
            "name": config.name, "init_config": init_config, "instances": instances
        }  # fmt: skip
    return found


def theirs(told: dict[str, Any]) -> Sent:
    return {quote(key, safe=""): one for key, one in told.get("configs", {}).items() if one and one["instances"]}


def why_different(told: dict[str, Any]) -> str | None:
    sent = told.get("error") or str(told.get("configs"))
    return next(
        (why for ours, theirs, why in DIFFERENCES if re.search(ours, told["checks"]) and re.search(theirs, sent)), None
    )


def test_what_is_sent_of_thousands_of_annotations_are_the_peers_bytes():
    different, compared, refused = set(), 0, 0
    for told in reference():
        found, expected = ours(told), theirs(told)
        assert "%%host" not in str(found)
        if found == expected:
            compared += bool(found)
            refused += not found
        else:
            assert why_different(told), (told, found)
            different.add(why_different(told))
    assert different == {why for *_, why in DIFFERENCES}
    assert compared > 1500
    assert refused > 800
