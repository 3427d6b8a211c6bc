"""What the program says about the Datadog Cluster Agent's options, and about names that are nobody's option."""

import re

import pytest
from django.core import checks
from django.core.management import call_command

from clusteragent import web
from clusteragent.greeting import _options
from clusteragent.handler import Handler
from clusteragent.lib import options, peer_options
from tests.table import table

# As charts and manifests of the Datadog Cluster Agent set them.
BROUGHT = {
    "DD_CLUSTER_CHECKS_ENABLED": "true",
    "DD_CLUSTER_CHECKS_REBALANCE_WITH_UTILIZATION": "false",
    "DD_CLUSTER_CHECKS_CRD_COLLECTION": "true",
    "DD_LEADER_ELECTION": "true",
    "DD_LEADER_LEASE_DURATION": "15",
    "DD_API_KEY": "s3cret",
    "DD_ADMISSION_CONTROLLER_ENABLED": "true",
    "DD_AD_ALLOWED_ENV_VARS": "",
    "DD_SOMETHING_NEW": "x",
    "DD_TAGS_FILE": "/tags",
}


def test_each_variable_is_honoured_or_known_with_a_reason() -> None:
    assert peer_options.honoured(BROUGHT) == ["DD_CLUSTER_CHECKS_ENABLED", "DD_TAGS_FILE"]
    assert peer_options.without_effect(BROUGHT) == {
        "it is for another duty than cluster checks": ["DD_ADMISSION_CONTROLLER_ENABLED"],
        "nothing is sent to Datadog from here": ["DD_API_KEY"],
        "of Kubernetes, Services and their endpoints are read alone": ["DD_CLUSTER_CHECKS_CRD_COLLECTION"],
        "balancing is always by utilization": ["DD_CLUSTER_CHECKS_REBALANCE_WITH_UTILIZATION"],
        "leadership is a lock in PostgreSQL, and every replica answers every call itself": [
            "DD_LEADER_ELECTION",
            "DD_LEADER_LEASE_DURATION",
        ],
        "it is no option of cluster checks": ["DD_SOMETHING_NEW"],
    }
    assert peer_options.unknown(BROUGHT) == {}


def test_options_are_told_in_one_line_without_values() -> None:
    line = peer_options.line(BROUGHT)
    assert line.startswith("Known and without effect here: DD_ADMISSION_CONTROLLER_ENABLED (it is for another duty")
    assert "DD_LEADER_ELECTION, DD_LEADER_LEASE_DURATION (" in line
    assert line.endswith("). No option of cluster checks, and without effect here: DD_SOMETHING_NEW.")
    assert "s3cret" not in line
    assert "\n" not in line
    assert peer_options.line({"DD_CLUSTER_CHECKS_ENABLED": "true", "PATH": "/bin"}) == ""


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("DD_CLUSTER_CHECKS_WARMUP", "DD_CLUSTER_CHECKS_WARMUP_DURATION"),
        ("DD_CLUSTER_CHECKS_extra_tags", "DD_CLUSTER_CHECKS_EXTRA_TAGS"),
        ("DD_cluster_checks_extra_tags", "DD_CLUSTER_CHECKS_EXTRA_TAGS"),
        ("CLUSTERAGENT_confd", "CLUSTERAGENT_CONFD"),
        ("DD_CLUSTER_CHECKS_EXCLUDED_CHECKS", "DD_CLUSTER_CHECKS_EXCLUDE_CHECKS"),
        ("CLUSTERAGENT_CONFDIR", "CLUSTERAGENT_CONFD"),
        ("CLUSTERAGENT_ADMIN_HOST", "CLUSTERAGENT_ADMIN_HOSTS"),
        ("DD_CLUSTER_CHECKS_QQQQ", ""),
        ("CLUSTERAGENT_QQQQQQQQQQQQQQQQQQ", ""),
        # What is nearly an option of ours is meant for it, though the peer may have others of that beginning.
        ("DD_CLUSTER_AGENT_AUTH_TOKN", "DD_CLUSTER_AGENT_AUTH_TOKEN"),
        ("DD_CLUSTERNAME", "DD_CLUSTER_NAME"),
    ],
)
def test_what_is_no_option_is_a_warning_with_the_nearest_name(
    name: str, nearest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert peer_options.unknown({name: "1"}) == {name: nearest}
    assert peer_options.without_effect({name: "1"}) == {}
    monkeypatch.setenv(name, "1")
    (warning,) = [found for found in checks.run_checks() if found.id == "clusteragent.W004"]
    assert name in warning.msg
    assert nearest in (warning.hint or "")


@table(
    "name",
    [
        "CLUSTERAGENT_VAR",
        "CLUSTERAGENT_SECRET_KEY_FILE",
        "CLUSTERAGENT_PORT",
        "CLUSTERAGENT_SERVICE_HOST",
        "CLUSTERAGENT_SERVICE_PORT_HTTPS",
        "CLUSTERAGENT_PORT_5005_TCP_ADDR",
        "CLUSTERAGENTS",
        "DD_CLUSTER_AGENT_ENABLED",
    ],
)
def test_what_is_an_option_or_somebody_else_s_is_no_warning(name: str) -> None:
    assert peer_options.unknown({name: "1"}) == {}


@table(
    "name",
    [
        "DD_AC_EXCLUDE", "DD_ADMISSION_CONTROLLER_INJECT_CONFIG_MODE", "DD_APP_KEY", "DD_AUTOSCALING_WORKLOAD_ENABLED",
        "DD_CLUSTER_AGENT_CLIENT_RECONNECT_PERIOD_SECONDS", "DD_CLUSTER_AGENT_CMD_PORT",
        "DD_CLUSTER_AGENT_COLLECT_KUBERNETES_TAGS", "DD_CLUSTER_AGENT_KUBERNETES_SERVICE_NAME",
        "DD_CLUSTER_AGENT_LANGUAGE_DETECTION_PATCHER_ENABLED", "DD_CLUSTER_AGENT_MAX_LEADER_CONNECTIONS",
        "DD_CLUSTER_AGENT_SERVICE_ACCOUNT_NAME", "DD_CLUSTER_AGENT_TOKEN_NAME", "DD_COLLECT_KUBERNETES_EVENTS",
        "DD_COMPLIANCE_CONFIG_ENABLED", "DD_CONTAINER_EXCLUDE_LOGS", "DD_CSI_ENABLED", "DD_DD_URL", "DD_EXTRA_CONFIG_PROVIDERS",
        "DD_EXTRA_LISTENERS", "DD_EXTERNAL_METRICS_PROVIDER_ENABLED", "DD_HEALTH_PORT", "DD_HOSTNAME",
        "DD_INSTRUMENTATION_INSTALL_TIME", "DD_KUBERNETES_KUBELET_HOST", "DD_KUBE_RESOURCES_NAMESPACE",
        "DD_LEADER_ELECTION_DEFAULT_RESOURCE", "DD_LEADER_LEASE_NAME", "DD_ORCHESTRATOR_EXPLORER_ENABLED", "DD_POD_NAME",
        "DD_REMOTE_CONFIGURATION_ENABLED", "DD_SECRET_BACKEND_COMMAND", "DD_SITE",
    ],
)  # fmt: skip
def test_what_charts_of_the_peer_set_has_a_reason_of_its_own(name: str) -> None:
    assert peer_options.unknown({name: "1"}) == {}
    ((reason, names),) = peer_options.without_effect({name: "1"}).items()
    assert names == [name]
    assert reason != peer_options.WITHOUT_EFFECT["DD_*"]


def test_an_empty_variable_is_not_set() -> None:
    assert peer_options.unknown({"CLUSTERAGENT_CONFDIR": " "}) == {}


def test_the_check_command_says_what_becomes_of_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (BROUGHT | {"DD_TAGS_FILE": ""}).items():
        monkeypatch.setenv(name, value)
    call_command("check")
    told = capsys.readouterr().out
    assert re.search(r"Honoured as by the Datadog Cluster Agent: .*DD_CLUSTER_CHECKS_ENABLED", told)
    assert (
        "Known and without effect here, because balancing is always by utilization:"
        " DD_CLUSTER_CHECKS_REBALANCE_WITH_UTILIZATION." in told
    )
    assert "No option of cluster checks, and without effect here: DD_SOMETHING_NEW" in told


def test_each_process_that_starts_tells_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("DD_LEADER_ELECTION", "true")
    monkeypatch.setattr(web, "serve", lambda server: None)
    monkeypatch.setattr(Handler, "run", lambda handler: None)
    for command in (("runagent",), ("serve", "agents")):
        caplog.clear()
        call_command(*command)
        assert "options_without_effect" in caplog.text
        assert "DD_LEADER_ELECTION (leadership is a lock" in caplog.text


def test_make_run_tells_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_LEADER_ELECTION", "true")
    monkeypatch.setenv("DD_CLUSTER_CHECKS_WARMUP", "3")
    told = list(_options())
    assert told[0] == "DD_CLUSTER_CHECKS_WARMUP is no option. Is DD_CLUSTER_CHECKS_WARMUP_DURATION meant?"
    assert "DD_LEADER_ELECTION (leadership is a lock" in told[1]


def test_no_reason_is_given_for_what_is_honoured() -> None:
    assert not options.READ.keys() & peer_options.WITHOUT_EFFECT.keys()


def test_reasons_name_only_options_that_there_are() -> None:
    reasons = " ".join(peer_options.WITHOUT_EFFECT.values())
    assert set(re.findall(r"\b(?:DD|CLUSTERAGENT)_[A-Z_]+", reasons)) <= options.READ.keys()
