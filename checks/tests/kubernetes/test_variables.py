"""Variables in annotations: what they stand for, where an IPv6 address gets brackets, and which ones are refused."""

import base64
import json
from collections.abc import Mapping

import pytest

from checks.sources.kubernetes import gourl
from checks.sources.kubernetes.configs import Options
from checks.sources.kubernetes.variables import Environment
from checks.tests.kubernetes.cast import annotated, endpoint, endpoint_slice, instance, made_of, problems, service
from checks.wire.patching import patch
from tests.table import table

IPV6 = "fd00::1"
VALUES = {
    "CITY": "Bern",
    "NUMBER": "0123",
    "FLAG": "true",
    "DD_API_KEY": "hunter2",
    "SNEAKY": "%%env_DD_API_KEY%%",
    "EMPTY": "",
}


def of(value: str, **spec: object) -> str:
    """What a value of an instance becomes, as YAML."""
    return instance(json.dumps({"x": value}), **spec).removeprefix("x: ").removesuffix("\n")


def with_environment(text: str, *allowed: str, values: Mapping[str, str] = VALUES) -> str:
    """What a value becomes when some environment variables may be read, or the problem."""
    checks = {"http_check": {"instances": [{"x": text}], "ignore_autodiscovery_tags": True}}
    options = Options(Environment(frozenset(allowed), values))
    made = made_of(service({"service.checks": checks}), options=options)
    if made.problems:
        return made.problems[0].error.partition(", http_check: ")[2]
    return made.configs["service/shop/web/http_check"].instances[0].removeprefix("x: ").removesuffix("\n")


def error_of(instance: object, **spec: object) -> str:
    """The problem of an instance, without its place."""
    made = annotated({"service.checks": {"http_check": {"instances": [instance]}}}, **spec)
    (problem,) = made.problems
    assert made.configs == {}
    assert made.kept == {"service/shop/web/http_check"}
    assert problem.where == "service shop/web"
    return problem.error.removeprefix("ad.datadoghq.com/service.checks, http_check: ")


@table(
    ("value", "expected"),
    [
        ("%%host%%", "10.96.0.1"),
        ("%%host_cluster%%", "10.96.0.1"),
        ("%%host_other%%", "10.96.0.1"),
        ("http://%%host%%:%%port%%/x", "http://10.96.0.1:8080/x"),
        # The last port is the default one; a value that is nothing but a port is a number.
        ("%%port%%", "8080"),
        ("p%%port%%", "p8080"),
        ("%%port_0%%", "80"),
        ("%%port_1%%", "8080"),
        ("%%port_+1%%", "8080"),
        ("%%port_admin%%", "8080"),
        ("%%kube_namespace%%", "shop"),
        ("%%host%%%%port%%", "10.96.0.18080"),
        # Nobody's text takes longer than its length asks for.
        ("%%" + "_" * 200_000, f"'%%{'_' * 200_000}'"),
        # Neighbours share no percent signs.
        ("%%host%%port%%", "10.96.0.1port%%"),
        ("100%", "100%"),
        ("100%%", "100%%"),
        ("%host%", "'%host%'"),
        # The peer reads and writes the sign so.
        ("‰host‰", "10.96.0.1"),
        ("5‰", "5%%"),
    ],
)
def test_variables(value, expected):
    assert of(value) == expected


@table(
    ("namespace", "expected"),
    [
        ("123", "123"),
        ("0x1f", "31"),
        ("010", "8"),
        ("09", '"09"'),
        ("t", "true"),
        ("f", "false"),
        ("1", "1"),
        ("y", '"y"'),
    ],
)
def test_a_value_that_is_one_variable_becomes_a_number_or_boolean_when_it_reads_so(namespace, expected):
    checks = {"a": {"instances": [{"x": "%%kube_namespace%%"}], "ignore_autodiscovery_tags": True}}
    data = service({"service.checks": checks})
    data["metadata"]["namespace"] = namespace
    made = made_of(data)
    assert made.configs[f"service/{namespace}/web/a"].instances == (f"x: {expected}\n",)


@table(
    ("value", "expected"),
    [
        ("%%host%%", "fd00::1"),
        ("http://%%host%%:%%port%%/health", "http://[fd00::1]:8080/health"),
        ("http://%%host%%", "http://[fd00::1]"),
        ("http://%%host_cluster%%/", "http://[fd00::1]/"),
        ("http://user:word@%%host%%/", "http://user:word@[fd00::1]/"),
        ("redis:%%host%%", "redis:[fd00::1]"),
        ("http://a/?to=%%host%%", "http://a/?to=[fd00::1]"),
        ("/by/path/%%host%%", "/by/path/[fd00::1]"),
        ("host=%%host%% port=%%port%%", "host=fd00::1 port=8080"),
        ("the address %%host%%", "the address fd00::1"),
        # The peer leaves the variable where a port follows and there is no scheme.
        ("%%host%%:%%port%%", "'[fd00::1]:8080'"),
        ("%%host%%:%%kube_namespace%%", "fd00::1:shop"),
        ("%%host%%:%%port%%,%%host%%:%%port_0%%", "'[fd00::1]:8080,[fd00::1]:80'"),
        ("%%port%%", "8080"),
        ("none", "none"),
    ],
)
def test_an_ipv6_address_gets_brackets_in_urls_and_before_ports(value, expected):
    assert of(value, host=IPV6) == expected


@table(
    ("text", "is_one"),
    [
        ("http://127.0.0.1:80/", True), ("http://127.0.0.1:x/", False), ("http://[::1]:80", True), ("http://[::1]x", False),
        ("http://[::g]", False), ("http://[fe80::1%25eth0]/", True), ("http://u:%zz@h/", False), ("http://a b/", False),
        ("127.0.0.1", True), ("127.0.0.1:80", False), ("[::1]", False), ("a/[::1]", True), ("/%zz", False), ("?%zz", True),
        ("a#%zz", False), (":a", False), ("a:b", True), ("1a:b", False), ("//a:1/b", True), ("///a:b", True), ("a\tb", False),
        ("a#\t", True), ("", True), ("http://%41/", False), ("http://%e9/", True),
    ],
)  # fmt: skip
def test_urls_are_what_the_peers_library_parses(text, is_one):
    """What Go 1.26 says of these texts, and of 160 000 others that were made at random."""
    assert gourl.is_url(text) is is_one


@table(
    ("value", "error"),
    [
        ("%%port_2%%", "%%port_2%%: there are 2 ports, counted from 0"),
        ("%%port_99999999999999999999%%", "%%port_99999999999999999999%%: there are 2 ports, counted from 0"),
        ("%%port_-1%%", "%%port_-1%%: no port has this name"),
        ("%%port_web%%", "%%port_web%%: no port has this name"),
        ("%%env%%", "%%env%% names no variable"),
        ("x %%hostname%%", "%%hostname%% is not known here: known are %%host%%, %%port%%, %%port_0%%, %%port_NAME%%, "
         "%%kube_namespace%% and %%env_NAME%%"),
        ("%%pid%%", "%%pid%% is not known here"), ("%%extra_namespace%%", "%%extra_namespace%% is not known here"),
        ("%%kube_pod_name%%", "%%kube_pod_name%% is not known here"), ("%%kube%%", "%%kube%% is not known here"),
        ("%%Host%%", "%%Host%% is not known here"), ("%%ports%%", "%%ports%% is not known here"),
        # It may be a part of a password.
        ("%%_x%%", "what stands between two %% is not known here"),
        ("50%% of %%host", "what stands between two %% is not known here"),
        (f"%%port_{'a' * 99}%%", f"%%port_{'a' * 55}…%%: no port has this name"),
        ("%%port_a\0b%%", "%%port_a\ufffdb%%: no port has this name"),
        ("%%env_", "%%env is left after its variables are resolved: it would name a variable of node agents"),
    ],
)  # fmt: skip
def test_a_variable_that_cant_be_resolved_is_a_problem(value, error):
    assert error_of({"a": ["b", {"c": value}]}).startswith(error)


@table(
    ("spec", "error"),
    [
        ({"clusterIP": "None"}, "%%host%%: the Service is headless, so it has no address: annotate "
         "ad.datadoghq.com/endpoints.checks, or write its name"),
        ({"clusterIP": "", "type": "ExternalName"},
         "%%host%%: the Service is an ExternalName, so it has no address: write the name"),
        ({"clusterIP": ""}, "%%host%%: the Service has no cluster IP yet"),
    ],
)  # fmt: skip
def test_a_service_without_an_address_has_no_host(spec, error):
    assert error_of({"url": "http://%%host%%/"}, **spec) == error


@table("spec", [{"clusterIP": "None"}, {"clusterIP": "", "type": "ExternalName"}])
def test_a_service_without_an_address_may_have_checks_that_need_none(spec):
    assert instance('{"url": "http://web.shop.svc/"}', host=spec["clusterIP"]) == "url: http://web.shop.svc/\n"


def test_a_target_without_ports_has_no_port():
    assert error_of({"port": "%%port%%"}, ports=[]) == "%%port%%: the Service has no ports"
    unnamed = endpoint_slice(endpoint(), ports=[{"port": 8081}])
    made = made_of(service({"endpoints.checks": {"a": {"instances": [{"port": "%%port_0%%"}]}}}), unnamed)
    assert problems(made) == [
        "service shop/web: ad.datadoghq.com/endpoints.checks, a: %%port_0%%: the endpoint has no ports with names"
    ]


def test_a_key_may_hold_no_variable():
    assert error_of({"%%host%%": 1}) == "%%host%% is in a key: only values may hold variables"


def test_variables_of_init_config_are_resolved():
    checks = {"a": {"init_config": {"x": ["%%host%%", "%%port%%"]}, "instances": [{}]}}
    (config,) = annotated({"service.checks": checks}).configs.values()
    assert config.init_config == "x:\n- 10.96.0.1\n- 8080\n"


@table(
    ("init_config", "expected"),
    [
        ("{}", "{}\n"),
        ('{ "b":1e3,"a": 12345678901234567890 }', "a: 12345678901234567890\nb: 1000\n"),
        ('"x"', "x\n"),
        ("null", "null\n"),
    ],
)
def test_the_text_of_init_config_is_read_as_yaml(init_config, expected):
    made = annotated({"service.checks": f'{{"a": {{"init_config": {init_config}, "instances": [{{}}]}}}}'})
    (config,) = made.configs.values()
    assert config.init_config == expected
    assert patch(config, ()).wire


def test_what_yaml_cant_read_is_a_problem():
    made = annotated({"service.checks": r'{"a": {"init_config": {"x": "\ud83d\ude00"}, "instances": [{}]}}'})
    assert [problem.error.partition(", a: ")[0] for problem in made.problems] == ["ad.datadoghq.com/service.checks"]


@table(
    ("text", "allowed", "expected"),
    [
        ("%%env_CITY%%", ("city",), "Bern"),
        ("to %%env_CITY%%, %%host%%", ("city",), "to Bern, 10.96.0.1"),
        # Values of the environment stay texts.
        ("%%env_NUMBER%%", ("number",), '"0123"'),
        ("%%env_FLAG%%", ("flag",), '"true"'),
        ("%%env_EMPTY%%", ("empty",), '""'),
        ("%%env_CITY%%", (), "%%env_CITY%% may not be read: DD_AD_ALLOWED_ENV_VARS does not name it"),
        ("%%env_CITY%%", ("flag",), "%%env_CITY%% may not be read: DD_AD_ALLOWED_ENV_VARS does not name it"),
        ("%%env_GONE%%", ("gone",), "%%env_GONE%%: there is no such environment variable"),
        ("%%env_city%%", ("city",), "%%env_city%%: there is no such environment variable"),
        ("%%env_DD_API_KEY%%", ("dd_api_key",), "%%env_DD_API_KEY%%: configs never get this program's own secrets"),
    ],
)
def test_only_named_variables_of_the_environment_may_be_read(text, allowed, expected):
    assert with_environment(text, *allowed) == expected


LEFT = "%%env is left after its variables are resolved: it would name a variable of node agents"


@pytest.mark.parametrize("text", ["%%env_SNEAKY%%", "x%%env_SNEAKY%%", "‰env_SNEAKY‰"])
def test_a_value_of_the_environment_names_no_variable_of_node_agents(text):
    assert with_environment(text, "sneaky") == LEFT


@table(
    "text",
    [
        r'"\u0025\u0025env_DD_API_KEY\u0025\u0025"', r'"\u0025%env_DD_API_KEY%%"', r'"\u2030env_DD_API_KEY\u2030"',
        '"‰env_DD_API_KEY‰"', '"%%env_DD_API_KEY%%"', '"%%env"', r'["\u0025\u0025\u0065nv_X%%"]',
    ],
)  # fmt: skip
@table("part", ["init_config", "instances"])
def test_no_spelling_leaves_a_variable_for_node_agents_to_resolve(text, part):
    """Node agents resolve variables of the environment in all that they get, and theirs has other secrets."""
    parts = {"init_config": "{}", "instances": "[{}]"}
    parts[part] = f'{{"x": {text}}}' if part == "init_config" else f'[{{"x": {text}}}]'
    made = annotated(
        {"service.checks": f'{{"a": {{"init_config": {parts["init_config"]}, "instances": {parts["instances"]}}}}}'}
    )
    assert made.configs == {}
    assert len(made.problems) == 1


def test_what_is_sent_is_read_as_it_was_made():
    made = annotated(
        {"service.checks": {"http_check": {"instances": [{"u": "%%port%%", "v": "a\u2028b\x85c\x7f", "w": "1e3"}]}}}
    )
    body = json.loads(patch(made.configs["service/shop/web/http_check"], ()).wire)
    assert base64.b64decode(body["instances"][0]).decode() == (
        "empty_default_hostname: true\ntags:\n- kube_namespace:shop\n- kube_service:web\nu: 8080\n"
        'v: "a\\Lb\\Nc\\x7F"\nw: "1e3"\n'
    )
