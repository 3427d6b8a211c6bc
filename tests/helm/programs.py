"""The helm that tests of the chart run. Run as a program, the module builds it into a cache outside of the tree."""

from pathlib import Path

from tests.kubernetes.programs import Programs

HELM = Programs("helm", Path(__file__).parent / "program", {"helm": "helm.sh/helm/v3/cmd/helm"}, "make helm")

if __name__ == "__main__":
    HELM.make()
