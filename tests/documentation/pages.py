"""The commands that the documentation shows."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
PAGES = {
    page.relative_to(ROOT).as_posix(): page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
_BLOCK = re.compile(r"^( *)```(?:sh|console)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_HEREDOC = re.compile(r"<< ?'?(\w+)'?")
# Pages whose commands are for another machine, and where they are run instead.
ELSEWHERE_AS_A_WHOLE = {
    "docs/backup.md": "tests/faults/test_backups.py runs them",
    "docs/howto/rotate-secrets.md": "tests/documentation/test_rotation.py follows it while node agents report",
    "docs/install-compose.md": "tests/image/test_compose.py runs them",
    "docs/install-systemd.md": "tests/installed/test_units.py runs what needs no systemd",
    "docs/release.md": "they make a release: tests/image builds the image, tests/installed the wheel",
    "docs/upgrade.md": "tests/faults/test_upgrades.py has replicas of both versions",
}
# Why a test of the documentation does not run what begins so.
ELSEWHERE = {
    "kubectl ": "it needs a cluster: tests/kubernetes follows one, and tests/helm reads what the pages show",
    "FIRST=$(kubectl ": "it needs a cluster: tests/helm/test_programs_of_pods.py lets the pool have what the Secret has",
    "helm ": "it needs a cluster: tests/kubernetes/test_chart.py installs the chart, upgrades it and goes back",
    "rm /tmp/yours": "it belongs to what kubectl wrote",
    "CLUSTERAGENT_KUBECONFIG=var/kubeconfig make run": "it needs what kubectl wrote",
    "podman ": "tests/image builds the image",
    "git clone ": "tests run in a clone",
    "cd clusteragent": "tests run in a clone",
    "clusteragent() ": "tests have the command as it is where it is installed",
    "make run": "it runs until somebody stops it: the cluster of these tests is started by the same command",
    "make test": "it would run itself",
    "make web": "it runs until somebody stops it: tests/test_first_run.py and tests/browser start both web servers",
    ".venv/bin/python manage.py runagent": "it runs until somebody stops it: the cluster of these tests has two",
    "pip install .": "tests/installed installs the wheel",
    'call -X POST "$API/plans/7/apply': "a plan that moves nothing has no number: operators/tests/test_api_plans.py has some",
    'call -X POST "$API/nodes/runner-7/accept': "it needs another certificate: operators/tests/test_runner_certificates.py",
    "clusteragent acceptcertificate ": "it needs another certificate: operators/tests/test_runner_certificates.py",
    "openssl s_client ": "ADDRESS is a runner's: nodes/tests/test_runner_certificates.py has some",
    "clusteragent whatif --lose-domain b": "it needs a domain: operators/tests/test_domains.py loses one",
    "curl --insecure ": "it needs another cluster agent",
    "clusteragent adopt ": "it needs another cluster agent: tests/faults/test_adopting.py has one",
}


def commands(page: Path) -> list[str]:
    """Return the commands of a page's blocks, each with the lines that belong to it."""
    return _commands(page.read_text())


def sections(page: Path) -> dict[str, list[str]]:
    """Return the commands of each section of a page, by its heading."""
    parts = re.split(r"^## (.+)$", page.read_text(), flags=re.MULTILINE)[1:]
    return {heading: _commands(text) for heading, text in zip(parts[::2], parts[1::2], strict=True)}


def _commands(text: str) -> list[str]:
    return [command for match in _BLOCK.finditer(text) for command in _split(dedent(match[2]))]


def _split(block: str) -> Iterator[str]:
    command, end = "", ""
    for line in block.splitlines():
        command += f"{line}\n"
        if match := _HEREDOC.search(line):
            end = match[1]
        if line == end:
            end = ""
        if not end and not line.endswith("\\") and _is_closed(command):
            if words(command):
                yield command.strip()
            command = ""
    assert not command.strip(), f"{command} does not end"


def _is_closed(command: str) -> bool:
    """Whether each quotation mark has its fellow. What is in a here-document does not count."""
    try:
        shlex.split(command if not _HEREDOC.search(command) else "", comments=True)
    except ValueError:
        return False
    return True


def words(command: str) -> list[str]:
    """Return the words of a command's first line, without comments."""
    return shlex.split(_HEREDOC.split(command)[0], comments=True)


def elsewhere(command: str) -> str:
    """Return the entry of ELSEWHERE that a command belongs to; empty if a test runs it."""
    return next((beginning for beginning in ELSEWHERE if command.startswith(beginning)), "")
