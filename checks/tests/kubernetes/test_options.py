"""What the program's options say of Kubernetes."""

from pathlib import Path

import pytest

from checks.sources.kubernetes import options
from checks.sources.kubernetes.configs import Options
from checks.sources.kubernetes.prometheus import Scraping
from clusteragent.lib import conf
from clusteragent.lib.options import OptionError


def test_by_default_nothing_is_left_out_scraped_or_read_from_the_environment() -> None:
    assert options.read() == Options()


def test_only_variables_that_are_named_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PORT", "8080")
    monkeypatch.setattr(conf, "AD_ALLOWED_ENV_VARS", frozenset({"shop_port", "not_there"}))
    assert options.read().environment.values == {"SHOP_PORT": "8080"}
    monkeypatch.setattr(conf, "AD_DISABLE_ENV_VAR_RESOLUTION", True)
    assert options.read().environment == Options().environment


def test_files_alone_name_secrets_of_all_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "KUBERNETES_SECRETS", True)
    read = options.read()
    of_files = options.for_files(read)
    assert read.secrets
    assert of_files.secrets
    assert (read.secrets.everywhere, of_files.secrets.everywhere) == (False, True)
    assert of_files.secrets.known is read.secrets.known


def test_services_are_scraped_and_excluded_as_options_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "PROMETHEUS_SCRAPE_ENABLED", True)
    monkeypatch.setattr(conf, "PROMETHEUS_SCRAPE_SERVICE_ENDPOINTS", True)
    monkeypatch.setattr(conf, "PROMETHEUS_SCRAPE_VERSION", 2)
    monkeypatch.setattr(conf, "KUBERNETES_IGNORE_READINESS", True)
    monkeypatch.setattr(conf, "CONTAINER_EXCLUDE_METRICS", ("kube_namespace:^dev$",))
    monkeypatch.setattr(conf, "CONTAINER_INCLUDE_METRICS", ("name:^web$",))
    read = options.read()
    assert read.scraping == Scraping(version=2, endpoints=True)
    assert read.ignores_readiness
    assert [one.excludes("dev", "db") for one in read.filters] == [True]
    assert [one.excludes("dev", "web") for one in read.filters] == [False]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PROMETHEUS_SCRAPE_CHECKS", "{", "DD_PROMETHEUS_SCRAPE_CHECKS: "),
        ("CONTAINER_EXCLUDE", ("namespace:dev",), "DD_CONTAINER_INCLUDE or DD_CONTAINER_EXCLUDE: namespace:dev begins"),
        ("CONTAINER_INCLUDE_METRICS", ("name:(",), "DD_CONTAINER_INCLUDE_METRICS or DD_CONTAINER_EXCLUDE_METRICS: "),
    ],
)
def test_what_can_not_be_read_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: object, told: str) -> None:
    monkeypatch.setattr(conf, "PROMETHEUS_SCRAPE_ENABLED", True)
    monkeypatch.setattr(conf, name, value)
    with pytest.raises(OptionError, match=told):
        options.read()


@pytest.mark.parametrize(
    ("kubernetes", "kubeconfig", "in_a_pod", "is_watched"),
    [
        ("auto", None, False, False),
        ("auto", None, True, True),
        ("auto", Path("config"), False, True),
        ("on", None, True, True),
        ("off", Path("config"), True, False),
    ],
)
def test_a_cluster_is_followed_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, kubernetes: str, kubeconfig: Path | None, in_a_pod: bool, is_watched: bool
) -> None:
    monkeypatch.setattr(conf, "KUBERNETES", kubernetes)
    monkeypatch.setattr(conf, "KUBECONFIG", kubeconfig)
    if in_a_pod:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert options.is_watched() is is_watched
