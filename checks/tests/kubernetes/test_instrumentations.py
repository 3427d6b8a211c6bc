"""The vendor's DatadogInstrumentation: checks of the endpoints of its Service, unless these are annotated."""

from typing import Any

from checks.sources.kubernetes import objects
from checks.sources.kubernetes.configs import Made, Options
from checks.sources.kubernetes.instrumentations import Instrumentation, make, read_instrumentation
from checks.tests.kubernetes.cast import endpoint, endpoint_slice, made_of, problems, service
from tests.table import table

INSTANCE = {"url": "http://%%host%%:%%port%%/", "timeout": 5, "name": "nginx %%kube_namespace%%"}
CHECKS = [{"integration": "nginx", "instances": [INSTANCE]}]
KEY = "instrumentation/shop/for-web/endpoints/shop/web/10.244.0.7/nginx"


def declared(checks: Any = CHECKS, **spec: Any) -> Instrumentation:
    """A DatadogInstrumentation of the Service shop/web."""
    target = {"apiVersion": "v1", "kind": "Service", "name": "web"}
    spec = {"targetRef": target, "config": {"checks": checks}} | spec
    return read({"spec": spec})


def read(data: dict[str, Any]) -> Instrumentation:
    metadata = {"namespace": "shop", "name": "for-web", "generation": 3}
    return read_instrumentation({"kind": "DatadogInstrumentation", "metadata": metadata} | data)


def made_by(
    one: Instrumentation, *slices: dict[str, Any], options: Options | None = None, of: dict[str, Any] | None = None
) -> Made:
    found = [kept for each in slices if (kept := objects.read_slice(each))]
    return make(one, objects.read_service(of or service()), found, options or Options())


def test_each_endpoint_has_a_check_on_its_pods_node():
    made = made_by(declared(), endpoint_slice(endpoint(), endpoint("10.244.0.8", node="birch", pod="pod-2")))
    assert [config.node_name for config in made.configs.values()] == ["ash", "birch"]
    config = made.configs[KEY]
    assert config.provider == "kubernetes-endpointslices-cr"
    assert config.source == "datadoginstrumentation:shop/for-web"
    assert config.service_id == "kube_endpoint_uid://shop/web/10.244.0.7"
    assert config.ad_identifiers == (config.service_id, "kubernetes_pod://pod-1")


def test_an_instance_becomes_what_the_same_annotation_makes():
    annotated = made_of(service({"endpoints.checks": {"nginx": {"instances": [INSTANCE]}}}), endpoint_slice(endpoint()))
    made = made_by(declared(), endpoint_slice(endpoint()))
    assert made.configs[KEY].instances == annotated.configs["endpoints/shop/web/10.244.0.7/nginx"].instances
    assert made.configs[KEY].init_config == annotated.configs["endpoints/shop/web/10.244.0.7/nginx"].init_config


def test_several_checks_of_one_integration_have_keys_of_their_own():
    made = made_by(declared([*CHECKS, *CHECKS]), endpoint_slice(endpoint()))
    assert list(made.configs) == [KEY, f"{KEY}/2"]


def test_an_annotation_of_the_same_check_wins():
    annotated = service({"endpoints.checks": {"nginx": {"instances": [{}]}}})
    checks = [*CHECKS, {"integration": "tcp_check", "instances": [{"host": "%%host%%"}]}]
    made = made_by(declared(checks), endpoint_slice(endpoint()), of=annotated)
    assert list(made.configs) == [KEY.replace("nginx", "tcp_check")]
    assert [one.why for one in made.passed_over] == ["nginx is annotated on service shop/web, which wins"]


def test_only_so_many_errors_are_told_and_then_all_is_kept():
    broken = [{"integration": f"check{number}", "instances": []} for number in range(100)]
    made = make(declared(broken), objects.read_service(service()), [], Options())
    assert made.kept == {"instrumentation/shop/for-web/"}
    assert len(made.problems) == 21
    assert made.problems[-1].error == "and more that is not shown"


def test_a_service_that_is_excluded_or_not_there_has_none():
    assert made_by(declared(), endpoint_slice(endpoint()), of=service({"exclude": "true"})).configs == {}
    made = make(declared(), None, [], Options())
    assert (made.configs, made.kept, made.problems) == ({}, set(), [])
    assert [one.why for one in made.passed_over] == ["there is no Service shop/web"]


def test_targets_that_are_pods_are_passed_over():
    made = made_by(declared(targetRef={"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}))
    assert made.problems == []
    assert [one.why for one in made.passed_over] == ["its target is no Service: node agents run its checks"]


def test_what_differs_only_in_its_status_is_the_same():
    seen = read({"spec": {"config": {}}, "status": {"conditions": [{"type": "ChecksReady"}]}})
    assert seen == read({"spec": {"config": {}}})
    assert seen.status == {"conditions": [{"type": "ChecksReady"}]}
    assert seen.generation == 3


@table(
    ("spec", "error"),
    [
        (None, "spec is missing"),
        ([], "spec is no object"),
        ({}, "spec.targetRef is missing"),
        ({"targetRef": "web"}, "spec.targetRef is no object"),
        ({"targetRef": {"kind": "Service"}}, "spec.targetRef.name is no name of a Service"),
        ({"targetRef": {"kind": "Service", "name": "web"}, "config": []}, "spec.config is no object"),
        ({"targetRef": {"kind": "Service", "name": "web"}, "config": {"checks": {}}}, "spec.config.checks is no list"),
    ],
)
def test_a_spec_that_is_broken_keeps_all_that_it_sent(spec, error):
    made = made_by(read({"spec": spec}), endpoint_slice(endpoint()))
    assert problems(made) == [f"datadoginstrumentation shop/for-web: {error}"]
    assert made.kept == {"instrumentation/shop/for-web/"}
    assert made.configs == {}


@table(
    ("check", "error"),
    [
        ({"integration": "nginx"}, "instances is no list with an instance, which may be {}"),
        ({"integration": "nginx", "instances": []}, "instances is no list with an instance, which may be {}"),
        ({"integration": "nginx", "instances": ["x"]}, "instances[0] is no object"),
        ({"integration": "nginx", "instances": [{}], "initConfig": 1}, "initConfig is no object"),
    ],
)
def test_a_check_that_is_broken_keeps_what_it_sent_and_others_go_on(check, error):
    other = {"integration": "tcp_check", "instances": [{}]}
    made = made_by(declared([check, other]), endpoint_slice(endpoint()))
    assert problems(made) == [f"datadoginstrumentation shop/for-web: spec.config.checks[0].{error}"]
    assert made.kept == {KEY}
    assert list(made.configs) == [KEY.replace("nginx", "tcp_check")]


def test_a_check_without_a_name_may_be_any_of_those_before():
    made = made_by(declared([{"instances": [{}]}, None, *CHECKS]), endpoint_slice(endpoint()))
    assert [one.error for one in made.problems] == [
        "spec.config.checks[0].integration is no name of an integration, such as nginx"
    ]
    assert made.kept == {"instrumentation/shop/for-web/"}
    assert list(made.configs) == [KEY]


def test_variables_that_mean_nothing_are_problems_of_the_resource():
    made = made_by(declared([{"integration": "nginx", "instances": [{"x": "%%hostt%%"}]}]), endpoint_slice(endpoint()))
    [problem] = made.problems
    assert problem.where == "datadoginstrumentation shop/for-web"
    assert problem.error.startswith("spec.config.checks[0]: %%hostt%% is not known here")
    assert made.kept == {KEY}
