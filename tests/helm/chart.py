"""What tests of the chart share: a real helm, and what it renders. Run as a program, the module writes the golden files anew."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.helm.programs import HELM

CHART = Path(__file__).parents[2] / "deploy/helm/clusteragent"
VALUES = sorted((Path(__file__).parent / "values").glob("*.yaml"))
GOLDEN = Path(__file__).parent / "golden"
# The oldest Kubernetes that the chart is for.
OLDEST = "1.28.0"
# These have the content of files, which tests compare by themselves.
_COPIES = {"CustomResourceDefinition", "PrometheusRule", "ConfigMap"}

Object = dict[str, Any]


def helm(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run helm, with nothing of this machine's settings."""
    with tempfile.TemporaryDirectory() as home:
        own = {"HELM_CACHE_HOME": home, "HELM_CONFIG_HOME": home, "HELM_DATA_HOME": home, "HOME": home}
        return subprocess.run(
            [str(HELM.folder() / "helm"), *words],
            env={"PATH": os.environ["PATH"], **own, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )


def render(values: Path, *words: str, version: str = OLDEST, release: str = "ca") -> str:
    """Return what `helm template` prints for a file of values."""
    done = template(values, *words, version=version, release=release)
    assert done.returncode == 0, done.stderr
    return done.stdout


def template(
    values: Path, *words: str, version: str = OLDEST, release: str = "ca"
) -> "subprocess.CompletedProcess[str]":
    """Run `helm template` for a file of values."""
    given = ("-n", "monitoring", "-f", str(values), "--kube-version", version)
    return helm("template", release, str(CHART), *given, *words)


def objects(rendered: str) -> list[Object]:
    """Return the objects of what was rendered."""
    return [document for document in yaml.safe_load_all(rendered) if document]


def named(rendered: str, kind: str, name: str) -> Object:
    """Return one of the objects."""
    found = [one for one in objects(rendered) if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{kind} {name}: {len(found)}"
    return found[0]


def pods(rendered: str) -> Iterator[tuple[str, Object]]:
    """The specs of all pods, with the names of their objects."""
    for one in objects(rendered):
        if one["kind"] in {"Deployment", "Job"}:
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]
        elif one["kind"] == "Pod":
            yield one["metadata"]["name"], one["spec"]


def golden(values: Path, *, version: str = OLDEST) -> str:
    """Return what belongs into the golden file of a file of values: with nothing that is another one each time."""
    rendered = re.sub(
        r"^( +(?:salt|checksum/secret|ca\.pem|ca_key\.pem)): .+",
        r"\1: …",
        render(values, version=version),
        flags=re.MULTILINE,
    )
    documents = rendered.split("\n---\n")
    return "\n---\n".join(
        document for document in documents if (yaml.safe_load(document) or {}).get("kind") not in _COPIES
    )


if __name__ == "__main__":
    for file in VALUES:
        (GOLDEN / file.name).write_text(golden(file))
        sys.stderr.write(f"{GOLDEN / file.name}\n")
