"""One version number, wherever it is told, and a list of changes for each version."""

import re
import tomllib

import pytest
import yaml
from django.contrib.auth.models import User
from django.test import Client

from checks.adoption import states
from checks.sources import httpsd
from checks.sources.kubernetes import connections
from clusteragent import metrics, webhook
from clusteragent.lib.version import USER_AGENT, VERSION
from nodes import statsclient
from tests.test_requirements import ROOT

HEADINGS = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_program_the_chart_and_the_image_have_the_number_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((ROOT / "deploy/helm/clusteragent/Chart.yaml").read_text())
    [image] = re.findall(r"^ARG VERSION=(.*)$", (ROOT / "deploy/image/Containerfile").read_text(), re.MULTILINE)
    told = {"program": VERSION, "chart": chart["version"], "its appVersion": chart["appVersion"], "image": image}
    assert told == dict.fromkeys(told, project["version"])


@pytest.mark.usefixtures("warm")
def test_metrics_tell_it() -> None:
    assert f'clusteragent_build_info{{join_leader="true",version="{VERSION}"}} 1\n' in metrics.exposition().decode()


@pytest.mark.usefixtures("warm")
def test_every_page_of_the_admin_tells_it_to_those_who_are_logged_in() -> None:
    client = Client()
    assert VERSION not in client.get("/admin/login/").content.decode()
    client.force_login(User.objects.create_superuser("olga"))
    for page in ("/admin/", "/admin/nodes/node/", "/admin/checks/config/add/"):
        assert f"{VERSION}, all times are UTC" in client.get(page).content.decode()


def test_every_call_of_ours_names_it() -> None:
    assert f"clusteragent/{VERSION}" == USER_AGENT
    for caller in (states, httpsd, connections, webhook, statsclient):
        assert caller.USER_AGENT is USER_AGENT


def test_the_list_of_changes_begins_with_this_version_and_only_that_may_be_unreleased() -> None:
    found = [re.fullmatch(r"(\d+)\.(\d+)\.(\d+), (unreleased|\d{4}-\d\d-\d\d)", heading) for heading in HEADINGS]
    assert all(found), HEADINGS
    numbers = [tuple(map(int, one.groups()[:3])) for one in found if one]
    assert numbers == sorted(set(numbers), reverse=True)
    assert ".".join(map(str, numbers[0])) == VERSION
    assert not [heading for heading in HEADINGS[1:] if heading.endswith("unreleased")]
