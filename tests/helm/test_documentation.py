"""The values that are shown in the documentation are those of the chart."""

import re
from pathlib import Path

import pytest

from tests.helm.chart import render

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/install-kubernetes.md").read_text()
SHOWN = re.findall(r"```yaml\n# clusteragent\.yaml\n(.*?)```", PAGE, re.DOTALL)
EXAMPLE = ROOT / "deploy/helm/cloudnativepg/values.yaml"


@pytest.mark.parametrize("text", [*SHOWN, EXAMPLE.read_text()])
def test_values_that_are_shown_are_taken(text: str, tmp_path: Path) -> None:
    assert len(SHOWN) == 6
    (tmp_path / "values.yaml").write_text(text)
    assert render(tmp_path / "values.yaml", "--set=database.existingSecret=clusteragent-db-app")


def test_names_that_are_shown_are_those_of_a_release_called_clusteragent() -> None:
    rendered = render(EXAMPLE, release="clusteragent")
    for name in ("clusteragent", "clusteragent-operators", "clusteragent-migrate"):
        assert f"\n  name: {name}\n" in rendered
        assert name in PAGE
