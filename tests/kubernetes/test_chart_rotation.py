"""The tokens of the chart's runners are replaced as docs/howto/rotate-node-tokens.md has it, by a real helm: no call is refused.

No controller runs. The test plays that of the Job, whose program it runs, and the kubelet, which gives runners what their Secret
has when they start.
"""

import base64
import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command

from tests.documentation.pages import ROOT, commands, sections
from tests.kubernetes.cluster import Cluster, Object
from tests.kubernetes.test_chart import APPS, URL, Release
from tests.pools import Pool
from tests.replicas import wait_for
from tests.webserver import WebServer

pytestmark = [pytest.mark.kubernetes, pytest.mark.processes, pytest.mark.django_db(transaction=True)]

MAKE = [
    one
    for one in commands(ROOT / "docs/install-kubernetes.md")
    if "runners-tokens" in one or one.startswith("TOKEN=nt-")
]
STEPS = sections(ROOT / "docs/howto/rotate-node-tokens.md")["In the chart"]
NAMES = [f"ca-clusteragent-runners-{number}" for number in range(3)]
VALUES = (
    URL, "--set=sharedToken=false", "--set=clusterChecksRunner.enabled=true",
    "--set=clusterChecksRunner.apiKeyExistingSecret=datadog-api-key",
    "--set=clusterChecksRunner.nodeTokensExistingSecret=runners-tokens",
)  # fmt: skip


class Administrator:
    """Whoever follows the page, in one shell with kubectl; helm's commands are the test's."""

    def __init__(self, cluster: Cluster, release: Release, folder: Path) -> None:
        self.release, self._variables = release, folder / "variables"
        self._variables.touch()
        own = cluster.kubeconfig(folder / "admin.kubeconfig")
        path = f"{cluster.programs}{os.pathsep}{os.environ['PATH']}"
        self._environment = {"PATH": path, "KUBECONFIG": str(own), "KUBERC": "off", "HOME": str(folder)}

    def run(self, *script: str) -> None:
        """Run commands in the release's namespace and with its name; variables stay from one time to the next."""
        text = "\n".join(script).replace("-n monitoring", f"-n {self.release.namespace.name}")
        text = text.replace("deployment clusteragent-", "deployment ca-clusteragent-")
        keep = f"set | grep -E '^(TOKEN|FIRST|SECOND)=' > {self._variables}"
        shell = ["bash", "-euo", "pipefail", "-c", f". {self._variables}\n{text}\n{keep}"]
        subprocess.run(shell, env=self._environment, check=True, stdout=subprocess.DEVNULL)

    def upgrade(self, verb: str) -> None:
        """Install or upgrade the release, and do what its Job does: its last container stores the tokens of the Secret."""
        with self.release.started(verb, self.release.chart, *VALUES) as process:
            job = self.release.migration(process)
            self._store(job)
            self.release.end(job, "Complete")
            _, err = process.communicate(timeout=90)
        assert process.returncode == 0, err

    def _store(self, job: Object) -> None:
        [container] = job["spec"]["template"]["spec"]["containers"]
        file = self._variables.with_name("tokens")
        file.write_text(self.secret("tokens"))
        name, *words = (word.replace("/etc/clusteragent/nodetokens/tokens", str(file)) for word in container["args"])
        call_command(name, *words, stdout=io.StringIO(), stderr=io.StringIO())

    def secret(self, key: str) -> str:
        """What the runners' Secret has by this key."""
        found = self.release.get("secrets", "runners-tokens")
        assert found
        return base64.b64decode(found["data"][key]).decode()

    def restarted(self, role: str) -> bool:
        """Whether somebody had the pods of a role start anew since the last upgrade."""
        found = self.release.get("deployments", f"ca-clusteragent-{role}", APPS)
        assert found
        return "kubectl.kubernetes.io/restartedAt" in found["spec"]["template"]["metadata"].get("annotations", {})


@pytest.fixture
def administrator(cluster: Cluster, tmp_path: Path) -> Iterator[Administrator]:
    release = Release(cluster, tmp_path)
    yield Administrator(cluster, release, tmp_path)
    for kind in ("clusterrolebindings", "clusterroles"):
        cluster.kubectl("delete", kind, "-l", "helm.sh/chart", "--ignore-not-found")


@pytest.fixture
def pool(web: WebServer, warm: None) -> Iterator[Pool]:
    pool = Pool(f"https://127.0.0.1:{web.port}")
    try:
        yield pool
    finally:
        pool.end()


def test_the_tokens_of_the_charts_runners_are_replaced_and_no_call_is_refused(
    administrator: Administrator, pool: Pool, web: WebServer
) -> None:
    administrator.run(*MAKE)
    administrator.upgrade("install")
    for name in NAMES:
        pool.start(name, administrator.secret("token"))
    first = administrator.secret("token")

    # Nobody plays the Deployments: what would wait for their pods is left out.
    once, again = (number for number, one in enumerate(STEPS) if one.startswith("helm upgrade"))
    between = next(
        number for number, one in enumerate(STEPS) if number > once and one.startswith("kubectl") and "patch" in one
    )
    administrator.run(*STEPS[:once])
    administrator.upgrade("upgrade")
    administrator.run(*(one for one in STEPS[once + 1 : between] if "rollout status" not in one))
    assert administrator.restarted("runagent")
    assert administrator.restarted("runners")
    second = administrator.secret("token")
    assert administrator.secret("tokens").split() == [first, second]
    pool.give(second)

    administrator.run(*STEPS[between:again])
    administrator.upgrade("upgrade")
    administrator.run(*STEPS[again + 1 :])
    assert administrator.secret("tokens") == second
    version = f"Bearer {first}"
    wait_for("the first one opens nothing", lambda: web.call("GET", "/version", token=version).status == 403)
    pool.wait_until_all_report(30)
    assert pool.failures.found == []
