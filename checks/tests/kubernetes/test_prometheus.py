"""Services that are scraped because of their Prometheus annotations."""

import pytest

from checks.sources.kubernetes.configs import Made, Options
from checks.sources.kubernetes.prometheus import InvalidScrapes, Scrape, Scraping, read_scrapes
from checks.tests.kubernetes.cast import endpoint, endpoint_slice, made_of, problems, service
from tests.table import table

SCRAPED = {"prometheus.io/scrape": "true"}
KEY = "prometheus/service/shop/web/openmetrics"


def scraped(annotations: dict[str, str], scraping: Scraping | None = None, **spec: object) -> Made:
    data = service(annotations, **spec)
    options = Options(scraping=scraping or Scraping())
    return made_of(data, endpoint_slice(endpoint()), options=options)


def instance(made: Made, key: str = KEY) -> dict[str, str]:
    lines = made.configs[key].instances[0].splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def test_a_scraped_service_is_an_openmetrics_check():
    made = scraped(SCRAPED)
    assert list(made.configs) == [KEY]
    config = made.configs[KEY]
    assert (config.name, config.provider, config.node_name) == ("openmetrics", "prometheus-services", "")
    assert (config.service_id, config.source) == (
        "kube_service://shop/web",
        "prometheus_services:kube_service://shop/web",
    )
    assert config.init_config == "{}\n"
    assert config.instances == (
        "metrics:\n- '*'\nnamespace: \"\"\nprometheus_url: http://10.96.0.1:8080/metrics\n"
        "tags:\n- kube_namespace:shop\n- kube_service:web\n",
    )


def test_the_second_version_of_the_check_has_other_keys():
    text = scraped(SCRAPED, Scraping(version=2)).configs[KEY].instances[0]
    assert text.startswith('metrics:\n- .*\nnamespace: ""\nopenmetrics_endpoint: http://10.96.0.1:8080/metrics\n')


@table(
    ("annotations", "url"),
    [
        ({"port": "9090"}, "http://10.96.0.1:9090/metrics"),
        ({"port": "%%port_http%%"}, "http://10.96.0.1:80/metrics"),
        ({"path": "/stats?a=b"}, "http://10.96.0.1:8080/stats?a=b"),
        ({"path": "stats"}, "http://10.96.0.1:8080/stats"),
        ({"scheme": "https", "port": "443"}, "https://10.96.0.1:443/metrics"),
    ],
)  # fmt: skip
def test_annotations_say_where(annotations, url):
    made = scraped(SCRAPED | {f"prometheus.io/{name}": value for name, value in annotations.items()})
    assert instance(made)["prometheus_url"] == url


def test_endpoints_are_scraped_instead_when_the_option_says_so():
    made = scraped(SCRAPED, Scraping(endpoints=True))
    key = "prometheus/endpoints/shop/web/10.244.0.7/openmetrics"
    assert list(made.configs) == [key]
    config = made.configs[key]
    assert config.node_name == "ash"
    assert config.source == "prometheus_services:kube_endpoint_uid://shop/web/10.244.0.7"
    assert config.ad_identifiers == ("kube_endpoint_uid://shop/web/10.244.0.7", "kubernetes_pod://pod-1")
    assert instance(made, key)["prometheus_url"] == "http://10.244.0.7:8081/metrics"


def test_of_a_headless_service_only_endpoints_are_scraped():
    made = scraped(SCRAPED, Scraping(endpoints=True), clusterIP="None")
    assert list(made.configs) == ["prometheus/endpoints/shop/web/10.244.0.7/openmetrics"]
    assert (made.problems, made.passed_over) == ([], [])


def test_a_headless_service_is_passed_over_without_that_option():
    made = scraped(SCRAPED, clusterIP="None")
    assert (made.configs, made.problems) == ({}, [])
    assert [one.why for one in made.passed_over] == [
        "prometheus.io/scrape: a headless Service has no address; DD_PROMETHEUS_SCRAPE_SERVICE_ENDPOINTS scrapes its endpoints"
    ]
    assert scraped({}, clusterIP="None").passed_over == []


@table(
    "annotations",
    [
        {},
        {"prometheus.io/scrape": "false"},
        {"prometheus.io/scrape": "True"},
        SCRAPED | {"ad.datadoghq.com/exclude": "true"},
    ],
)
def test_other_services_are_not_scraped(annotations):
    assert scraped(annotations).configs == {}


def test_nothing_is_scraped_without_the_option():
    assert made_of(service(SCRAPED)).configs == {}


def test_a_service_without_ports_is_a_problem():
    made = scraped(SCRAPED, ports=[])
    assert problems(made) == ["service shop/web: prometheus.io/scrape: %%port%%: the Service has no ports"]
    assert made.kept == {KEY}


def test_scrapes_of_ones_own():
    text = """[
      {"configurations": [{"timeout": 5, "send_distribution_buckets": false, "tls_verify": false, "namespace": "n"},
                          {"prometheus_url": "http://%%host%%:1/x", "metrics": ["a", {"b": "c"}]}]},
      {"autodiscovery": {"kubernetes_annotations": {"include": {"team": "x"}, "exclude": {"no": "1"}}}},
      {"autodiscovery": {"kubernetes_container_names": ["nginx"]}}
    ]"""
    scraping = Scraping(read_scrapes(text))
    made = scraped(SCRAPED | {"team/x": "y"}, scraping)
    # Empty values are left out, but for flags that mean something when they are false.
    assert made.configs[KEY].instances == (
        "metrics:\n- '*'\nnamespace: \"n\"\nprometheus_url: http://10.96.0.1:8080/metrics\n"
        "tags:\n- kube_namespace:shop\n- kube_service:web\ntimeout: 5\ntls_verify: false\n",
        'metrics:\n- a\n- b: c\nnamespace: ""\nprometheus_url: http://10.96.0.1:1/x\n'
        "tags:\n- kube_namespace:shop\n- kube_service:web\n",
    )
    assert len(scraping.scrapes) == 2


def test_each_scrape_that_applies_makes_a_config():
    scraping = Scraping(
        (Scrape(), Scrape(include={"a/b": "x", "a/c": "y"}, exclude={"a/d": "1"}), Scrape(({"timeout": 1},)))
    )
    both = [KEY, f"{KEY}/2", f"{KEY}/3"]
    assert list(scraped(SCRAPED | {"a/c": "y"}, scraping).configs) == both
    assert list(scraped({"a/b": "x"}, scraping).configs) == [f"{KEY}/2"]
    assert list(scraped(SCRAPED | {"a/b": "x", "a/d": "1"}, scraping).configs) == [KEY, f"{KEY}/3"]


@table("text", ["", "  ", "[]", "[{}]", '[{"configurations": []}]', '[{"autodiscovery": null}]'])
def test_without_scrapes_of_ones_own_there_is_the_usual_one(text):
    assert read_scrapes(text) == (Scrape(),)


@table(
    ("text", "error"),
    [
        ("x", "is not JSON: expecting value at character 1"),
        ("{}", 'is not a list of maps, such as [{"configurations": [{"timeout": 5}]}]'),
        ("[1]", 'is not a list of maps, such as [{"configurations": [{"timeout": 5}]}]'),
        ('[{"configurations": {}}]', ""),
        ('[{"configurations": [1]}]', "configurations is not a list of maps"),
        ('[{"autodiscovery": []}]', "autodiscovery is not a map"),
        ('[{"autodiscovery": {"kubernetes_annotations": {"include": {"a": true}}}}]',
         "include is not a map of annotations and their values, both as texts"),
        ('[{"autodiscovery": {"kubernetes_annotations": {"exclude": []}}}]', "exclude is not a map"),
    ],
)  # fmt: skip
def test_scrapes_that_cant_be_read(text, error):
    if not error:
        assert read_scrapes(text)
        return
    with pytest.raises(InvalidScrapes) as raised:
        read_scrapes(text)
    assert str(raised.value) == error
