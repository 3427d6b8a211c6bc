"""The configs of Services and their endpoints: where they run, their tags, and keys that stay."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.sources.kubernetes import configs, objects
from checks.sources.kubernetes.configs import Made, Options
from checks.sources.kubernetes.objects import read_slice
from checks.sources.kubernetes.prometheus import Scraping
from checks.tests.kubernetes.cast import annotated, endpoint, endpoint_slice, made_of, problems, service
from checks.wire import sharding
from tests.table import table

CHECK = {"nginx": {"instances": [{"url": "http://%%host%%:%%port%%/"}]}}
OF_ENDPOINTS = {"endpoints.checks": CHECK}
KEY = "endpoints/shop/web/10.244.0.7/nginx"


def urls(made: Made) -> dict[str, str]:
    """{key: the URL of the first instance}."""
    return {key: config.instances[0].rpartition("url: ")[2].strip() for key, config in made.configs.items()}


def test_a_check_of_a_pods_address_belongs_to_its_node():
    (config,) = made_of(service(OF_ENDPOINTS), endpoint_slice(endpoint())).configs.values()
    assert config.name == "nginx"
    assert config.node_name == "ash"
    assert config.service_id == "kube_endpoint_uid://shop/web/10.244.0.7"
    assert config.ad_identifiers == (config.service_id, "kubernetes_pod://pod-1")
    assert (config.provider, config.source) == ("kubernetes-endpoints", "kube_endpoints:kube_endpoint_uid://shop/web/")
    assert config.instances == (
        "tags:\n- kube_endpoint_ip:10.244.0.7\n- kube_namespace:shop\n- kube_service:web\nurl: http://10.244.0.7:8081/\n",
    )
    assert config.is_endpoint
    assert not config.is_template


@table(
    ("resolve", "of_endpoint", "node"),
    [
        ("", endpoint(), "ash"), ("auto", endpoint(), "ash"), ("ip", endpoint(), ""),
        ("auto", endpoint(pod=""), ""), ("auto", endpoint(node=""), ""),
        ("auto", endpoint() | {"targetRef": {"kind": "Node", "uid": "x"}}, ""),
    ],
)  # fmt: skip
def test_any_other_address_has_a_cluster_check(resolve, of_endpoint, node):
    made = made_of(service(OF_ENDPOINTS | {"endpoints.resolve": resolve}), endpoint_slice(of_endpoint))
    assert [config.node_name for config in made.configs.values()] == [node]
    assert [bool(config.ad_identifiers) for config in made.configs.values()] == [bool(node)]
    assert made.warnings == []


def test_an_unknown_way_to_resolve_is_a_warning_and_taken_for_auto():
    made = made_of(service(OF_ENDPOINTS | {"endpoints.resolve": "pod"}), endpoint_slice(endpoint()))
    assert [config.node_name for config in made.configs.values()] == ["ash"]
    warning = "service shop/web: ad.datadoghq.com/endpoints.resolve is neither ip nor auto, so auto is taken"
    assert list(map(str, made.warnings)) == [warning]


@table(
    ("conditions", "is_checked"),
    [({}, True), ({"ready": False}, False), ({"terminating": True}, False), ({"ready": False, "serving": True}, False)],
)
def test_endpoints_that_are_not_ready_or_end_are_not_checked(conditions, is_checked):
    data, one = service(OF_ENDPOINTS), endpoint_slice(endpoint(**conditions))
    assert bool(made_of(data, one).configs) is is_checked
    assert made_of(data, one, options=Options(ignores_readiness=True)).configs


def test_a_service_has_the_endpoints_of_all_its_slices_of_both_families():
    slices = [
        endpoint_slice(endpoint("fd00::7"), name="web-v6", addressType="IPv6"),
        endpoint_slice(endpoint(), endpoint("10.244.0.8"), name="web-v4"),
    ]
    assert urls(made_of(service(OF_ENDPOINTS), *slices)) == {
        KEY: "http://10.244.0.7:8081/",
        "endpoints/shop/web/10.244.0.8/nginx": "http://10.244.0.8:8081/",
        "endpoints/shop/web/fd00::7/nginx": "http://[fd00::7]:8081/",
    }


def test_an_address_in_two_slices_is_one_with_the_ports_of_both():
    slices = [
        endpoint_slice(endpoint(pod="", node=""), name="b", ports=[{"name": "x", "port": 2}, {"name": "y", "port": 1}]),
        endpoint_slice(endpoint(ready=False), name="a", ports=[{"name": "z", "port": 9}]),
        endpoint_slice(endpoint(), name="c", ports=[{"name": "w", "port": 3}, {"name": "x", "port": 2}]),
    ]
    for each in (slices, slices[::-1]):
        made = made_of(service(OF_ENDPOINTS), *each)
        assert urls(made) == {KEY: "http://10.244.0.7:3/"}
        assert made.configs[KEY].node_name == "ash"


def test_ports_of_endpoints_stay_in_the_order_of_the_slice():
    one = endpoint_slice(endpoint(), ports=[{"name": "b", "port": 9000}, {"name": "a", "port": 80}])
    assert urls(made_of(service(OF_ENDPOINTS), one)) == {KEY: "http://10.244.0.7:80/"}


def test_clusters_without_slices_have_endpoints_objects():
    read = objects.read_service(service(OF_ENDPOINTS))
    subset = {"addresses": [{"ip": "10.244.0.7", "nodeName": "ash", "targetRef": {"kind": "Pod", "uid": "pod-1"}}],
              "ports": [{"port": 8081}]}  # fmt: skip
    old = objects.read_endpoints({"metadata": {"namespace": "shop", "name": "web"}, "subsets": [subset]})
    assert read is not None
    expected = made_of(service(OF_ENDPOINTS), endpoint_slice(endpoint()))
    assert configs.make(read, old, Options()) == expected


@pytest.mark.parametrize("name", ["exclude", "metrics_exclude"])
def test_an_excluded_service_has_no_checks_and_an_excluded_slice_none_of_its_endpoints(name):
    both = {"service.checks": CHECK} | OF_ENDPOINTS
    one, other = endpoint_slice(endpoint()), endpoint_slice(endpoint("10.244.0.8"), name="other")
    assert made_of(service(both | {name: "true"}), one, other) == Made()
    other["metadata"]["annotations"] = {f"ad.datadoghq.com/{name}": "true"}
    assert list(made_of(service(both), one, other).configs) == ["service/shop/web/nginx", KEY]


def test_tags_are_those_of_the_instance_and_of_the_service():
    data = service({"service.checks": {"a": {"instances": [{"tags": ["team:b", "kube_service:web", 5, None, "a"]}]}}})
    data["metadata"]["labels"] = {"tags.datadoghq.com/service": "front", "tags.datadoghq.com/env": ""}
    (config,) = made_of(data).configs.values()
    tags = ["a", "'env:'", "kube_namespace:shop", "kube_service:web", "service:front", "team:b"]
    assert config.instances[0] == "tags:\n" + "".join(f"- {tag}\n" for tag in tags)


@table("tags", ["team:b", {"a": "b"}, None, 5])
def test_tags_that_are_no_list_are_replaced_as_by_the_peer(tags):
    (config,) = annotated({"service.checks": {"a": {"instances": [{"tags": tags}]}}}).configs.values()
    assert config.instances[0] == "tags:\n- kube_namespace:shop\n- kube_service:web\n"


def test_tags_are_not_added_where_they_are_ignored():
    checks = {"a": {"instances": [{"tags": ["b"]}], "ignore_autodiscovery_tags": True}}
    (config,) = annotated({"service.checks": checks}).configs.values()
    assert config.instances == ("tags:\n- b\n",)
    # The peer does not hand the flag on, and it is in the digest.
    assert not config.ignore_autodiscovery_tags


def test_a_problem_of_all_endpoints_is_said_once_and_all_keep_what_they_sent():
    broken = {"endpoints.checks": {"a": {"instances": [{"x": "%%port_none%%"}]}, "b": {"instances": [{}]}, "c": {}}}
    made = made_of(service(broken), endpoint_slice(endpoint(), endpoint("10.244.0.8")))
    assert [problem.rpartition(", ")[2] for problem in problems(made)] == [
        "c has no instances",
        "a: %%port_none%%: no port has this name",
    ]
    beginnings = [f"endpoints/shop/web/10.244.0.{number}" for number in (7, 8)]
    assert list(made.configs) == [f"{beginning}/b" for beginning in beginnings]
    assert made.kept == {f"{beginning}/{check}" for beginning in beginnings for check in "ac"}


def test_what_is_no_json_keeps_all_that_it_sent():
    made = made_of(service({"service.checks": "{", "endpoints.checks": "{"}), endpoint_slice(endpoint()))
    assert len(made.problems) == 2
    assert made.kept == {"service/shop/web/", "endpoints/shop/web/10.244.0.7/"}


def test_a_broken_service_annotation_leaves_those_of_endpoints_alone():
    made = made_of(service({"service.checks": "{"} | OF_ENDPOINTS), endpoint_slice(endpoint()))
    assert list(made.configs) == [KEY]
    assert len(made.problems) == 1


def test_a_service_without_annotations_makes_nothing():
    assert made_of(service(), endpoint_slice(endpoint())) == Made()


def test_keys_stay_when_ports_or_the_cluster_ip_change():
    annotations = {"service.checks": CHECK} | OF_ENDPOINTS
    before = made_of(service(annotations), endpoint_slice(endpoint()))
    moved = endpoint_slice(endpoint(node="birch", pod="pod-2"), name="web-def", ports=[{"name": "other", "port": 1}])
    after = made_of(service(annotations, clusterIP="10.96.0.9", ports=[{"port": 1}]), moved)
    assert before.configs.keys() == after.configs.keys()
    assert all(before.configs[key] != after.configs[key] for key in before.configs)


def test_another_address_is_another_key():
    made = [made_of(service(OF_ENDPOINTS), endpoint_slice(endpoint(ip))) for ip in ("10.244.0.7", "10.244.0.8")]
    assert not made[0].configs.keys() & made[1].configs.keys()


def test_all_keys_of_a_service_have_beginnings_that_are_known():
    annotations = {"service.checks": CHECK, "prometheus.io/scrape": "true"} | OF_ENDPOINTS
    objects = service(annotations), endpoint_slice(endpoint())
    scrapings = [Scraping(endpoints=endpoints) for endpoints in (False, True)]
    made = [made_of(*objects, options=Options(scraping=scraping)) for scraping in scrapings]
    found = {key[: key.index("shop/web/") + len("shop/web/")] for each in made for key in each.configs}
    assert sorted(configs.beginnings("shop", "web")) == sorted(found)


def test_a_service_makes_only_so_many_configs(monkeypatch):
    monkeypatch.setattr(configs, "MOST_INSTANCES", 3)
    made = made_of(service(OF_ENDPOINTS), endpoint_slice(*(endpoint(f"10.0.0.{number}") for number in range(5))))
    assert len(made.configs) == 3
    assert problems(made) == ["service shop/web: has 5 endpoints, of which only 3 are checked"]


def test_a_service_makes_only_so_many_bytes(monkeypatch):
    slices = endpoint_slice(*(endpoint(f"10.0.0.{number}") for number in range(5)))
    size = len('{"url":"http://%%host%%:%%port%%/"}{}') + 2 * configs.BYTES_OF_VARIABLE
    monkeypatch.setattr(configs, "MOST_BYTES", 2 * size + 1)
    made = made_of(service({"endpoints.checks": CHECK}), slices)
    assert len(made.configs) == 2
    assert problems(made) == ["service shop/web: has 5 endpoints, of which only 2 are checked"]


def test_what_grows_when_it_is_resolved_counts_as_it_grows(monkeypatch):
    nested = "[" * 45 + ",".join("1" * 1000) + "]" * 45
    text = f'{{"http_check": {{"instances": [{{"a": {nested}, "url": "%%host%%"}}]}}}}'
    monkeypatch.setattr(configs, "MOST_BYTES", 200_000)
    made = made_of(
        service({"endpoints.checks": text}), endpoint_slice(*(endpoint(f"10.0.0.{number}") for number in range(9)))
    )
    assert problems(made) == ["service shop/web: has 9 endpoints, of which only 3 are checked"]
    assert len(made.configs) == 3


def test_an_address_has_only_so_many_ports_whatever_its_slices_say():
    ports = [[{"name": f"p{slice_}-{number}", "port": number + 1} for number in range(300)] for slice_ in range(3)]
    slices = [endpoint_slice(endpoint(), name=f"web-{number}", ports=some) for number, some in enumerate(ports)]
    read = [one for each in slices if (one := objects.read_slice(each))]
    [address] = configs.addresses_of(read, Options())
    assert len(address.ports) == objects.MOST_PORTS
    named = service({"endpoints.checks": {"http_check": {"instances": [{"url": "%%port_p0-249%%"}]}}})
    assert problems(made_of(named, *slices)) == []


def test_a_service_has_only_so_many_problems():
    instances = [{"url": f"%%hots_{number}%%"} for number in range(50)]
    annotations = {
        "service.check_names": ["http_check"],
        "service.init_configs": [{}],
        "service.instances": [instances],
    }
    made = made_of(service(annotations))
    assert len(made.problems) == configs.MOST_PROBLEMS + 1
    assert problems(made)[-1] == "service shop/web: and more that is not shown"
    assert len(made.kept) == 50


def test_node_and_pod_are_of_one_endpoint():
    """Two slices have an address while it goes from one pod to another."""
    half = endpoint_slice(endpoint(node="", pod="pod-1"), name="a")
    other_half = endpoint_slice(endpoint(node="birch", pod=""), name="b")
    [address] = configs.addresses_of([read_slice(half), read_slice(other_half)], Options())
    assert not (address.node and address.pod)
    whole = endpoint_slice(endpoint(node="cedar", pod="pod-2"), name="c")
    [address] = configs.addresses_of([read_slice(each) for each in (half, other_half, whole)], Options())
    assert (address.node, address.pod) == ("cedar", "pod-2")


FIELDS = st.sampled_from(
    ["instances", "init_config", "name", "logs", "tags", "ignore_autodiscovery_tags", "Instances", "http_check"]
)
TEXTS = st.sampled_from(
    ["%%host%%", "%%port_x%%", "%%env_A%%", "http://%%host%%:%%port%%/", "a: b", "- %%", "\u2028'", "%%%%host%%"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | FIELDS, inner, max_size=4),
    max_leaves=5,
)
CHECKS = st.dictionaries(
    st.text(max_size=5) | FIELDS,
    st.fixed_dictionaries(
        {"instances": st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=3), max_size=3) | VALUES},
        optional={"init_config": VALUES, "name": st.text(max_size=4), "logs": VALUES},
    ),
    max_size=4,
)  # fmt: skip
KINDS = st.sampled_from(["service", "endpoints"])
NAMES = st.sampled_from(
    ["checks", "check_names", "init_configs", "instances", "logs", "resolve", "ignore_autodiscovery_tags"]
)
ANNOTATIONS = st.dictionaries(
    st.builds("{}.{}".format, KINDS, NAMES) | st.text(min_size=1), VALUES | CHECKS | st.text(), max_size=5
)
HOSTS = st.sampled_from(["10.96.0.1", "fd00::1", "None", "", "web.example"])
PORTS = st.lists(
    st.fixed_dictionaries({"port": st.integers(0, 65535)}, optional={"name": st.text(max_size=3)}), max_size=3
)


@given(
    annotations=ANNOTATIONS, cluster_ip=HOSTS, ports=PORTS, addresses=st.lists(HOSTS, max_size=3), scraped=st.booleans()
)
def test_no_annotation_makes_it_fail_and_equal_objects_make_equal_configs(
    annotations, cluster_ip, ports, addresses, scraped
):
    options = Options(scraping=Scraping(endpoints=True) if scraped else None)
    data = service(
        annotations | ({"prometheus.io/scrape": "true"} if scraped else {}), clusterIP=cluster_ip, ports=ports
    )
    slices = [endpoint_slice(*map(endpoint, addresses), ports=ports)]
    made = made_of(data, *slices, options=options)
    assert made == made_of(data, *slices, options=options)
    assert not made.kept & made.configs.keys()
    for key, config in made.configs.items():
        assert not sharding.is_shard(key)
        assert not config.is_template
        assert "%%env" not in "".join((*config.instances, config.init_config or ""))


@given(data=VALUES, annotations=st.dictionaries(st.text(), VALUES))
def test_no_object_makes_it_fail(data, annotations):
    objects.read_service(data)
    objects.read_slice(data)
    objects.read_endpoints(data)
    labels = {"kubernetes.io/service-name": data}
    metadata = {"name": data, "namespace": "shop", "annotations": annotations, "labels": labels}
    strange = {"metadata": metadata, "spec": data, "ports": data, "endpoints": [data], "subsets": [data]}
    objects.read_slice(strange)
    objects.read_endpoints(strange)
    if found := objects.read_service(strange):
        configs.make(found, [], Options())


@given(first=CHECKS, cluster_ip=HOSTS, ports=PORTS, other_ip=HOSTS, other_ports=PORTS)
def test_no_key_depends_on_ports_or_addresses_of_the_service(first, cluster_ip, ports, other_ip, other_ports):
    made = [
        annotated({"service.checks": first}, clusterIP=ip, ports=of_service)
        for ip, of_service in ((cluster_ip, ports), (other_ip, other_ports))
    ]
    known = [each.configs.keys() | each.kept for each in made]
    assert known[0] == known[1]


@given(
    names=st.lists(st.sampled_from(["a", "a/2", "b", "a%2F2", "a#1"]), max_size=6),
    sizes=st.lists(st.integers(1, 3), min_size=6),
)
def test_lists_give_each_instance_a_key_of_its_own(names, sizes):
    instances = [[{}] * size for _, size in zip(names, sizes, strict=False)]
    lists = {"service.check_names": names, "service.init_configs": [{}] * len(names), "service.instances": instances}
    assert len(annotated(lists).configs) == sum(map(len, instances))


def test_options_decide_nothing_of_a_service_that_they_do_not_name():
    data = service({"service.checks": CHECK})
    options = Options()
    assert made_of(data, options=options) == made_of(data, options=replace(options, ignores_readiness=True))


@table(
    "annotations",
    [
        {"service.checks": CHECK} | OF_ENDPOINTS,
        {
            f"{kind}.{name}": value
            for kind in ("service", "endpoints")
            for name, value in (("check_names", ["http_check"]), ("init_configs", [{}]), ("instances", [{"url": "u"}]))
        },
    ],
)
def test_a_cardinality_of_tags_changes_nothing(annotations):
    slices = endpoint_slice(endpoint())
    with_it = {f"{kind}.check_tag_cardinality": "high" for kind in ("service", "endpoints")}
    within = {
        name: {check: fields | {"check_tag_cardinality": "high"} for check, fields in value.items()}
        if name.endswith(".checks") else value
        for name, value in annotations.items()
    }  # fmt: skip
    made = made_of(service(within | with_it), slices)
    assert made == made_of(service(annotations), slices)
    assert len(made.configs) == 2
    assert {config.check_tag_cardinality for config in made.configs.values()} == {""}
