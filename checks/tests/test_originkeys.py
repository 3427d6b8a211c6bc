"""Keys in words."""

import pytest

from checks.models import Origin
from checks.models import originkeys as keys
from checks.sources.kubernetes.configs import Options
from checks.sources.kubernetes.prometheus import Scraping
from checks.tests.kubernetes.cast import endpoint, endpoint_slice, made_of, service
from tests.table import table


@table(
    ("key", "words"),
    [
        ("service/shop/web/http_check", "service shop/web, http_check"),
        ("service/shop/web/http_check/2", "service shop/web, http_check (2)"),
        ("service/shop/web/a%2F2%231", "service shop/web, a/2#1"),
        ("endpoints/shop/web/10.0.0.7/nginx", "endpoint 10.0.0.7 of service shop/web, nginx"),
        ("endpoints/shop/web/fd00::7/nginx/12", "endpoint fd00::7 of service shop/web, nginx (12)"),
        ("prometheus/service/shop/web/openmetrics", "prometheus: service shop/web, openmetrics"),
        ("prometheus/endpoints/shop/web/10.0.0.7/openmetrics/2",
         "prometheus: endpoint 10.0.0.7 of service shop/web, openmetrics (2)"),
        ("file/a.d/b%20c.yaml/service/shop/web/a", "file a.d/b c.yaml: service shop/web, a"),
        ("file/service/x/endpoints/shop/web/1.2.3.4/a", "file service/x: endpoint 1.2.3.4 of service shop/web, a"),
    ],
)  # fmt: skip
def test_keys_are_told_in_words(key, words):
    assert keys.described(key) == words
    assert keys.object_of(key) == ("service", "shop/web")


@pytest.mark.parametrize("key", ["", "redis.yaml", "clustercheck/shop", "service/shop/web", "endpoints/shop/web/nginx"])
def test_other_keys_stay_as_they_are(key):
    assert (keys.described(key), keys.object_of(key)) == (key, ("", ""))


def test_all_keys_that_are_made_can_be_told():
    lists = {"check_names": ["a", "a"], "init_configs": [{}, {}], "instances": [{}, {}]}
    annotations = {f"{kind}.{name}": value for kind in ("service", "endpoints") for name, value in lists.items()}
    cluster = service(annotations | {"prometheus.io/scrape": "true"}), endpoint_slice(endpoint("fd00::7"))
    made = set()
    for endpoints in (False, True):
        made |= set(made_of(*cluster, options=Options(scraping=Scraping(endpoints=endpoints))).configs)
    assert len(made) == 6
    assert {keys.object_of(key) for key in made} == {("service", "shop/web")}
    assert len({keys.described(key) for key in made}) == 6


@pytest.mark.parametrize(
    ("source", "key", "shown", "about"),
    [
        (
            "kubernetes",
            "service/shop/web/http_check",
            "kubernetes: service shop/web, http_check",
            ("service", "shop/web"),
        ),
        ("kubernetes", "clustercheck/shop/web", "kubernetes: clustercheck shop/web", ("clustercheck", "shop/web")),
        ("kubernetes", "clustercheck/shop/web#3", "kubernetes: clustercheck shop/web#3", ("clustercheck", "shop/web")),
        ("kubernetes", "other/shop/web", "kubernetes:other/shop/web", ("", "")),
        ("file", "service/shop/web/http_check", "file:service/shop/web/http_check", ("", "")),
    ],
)
def test_only_origins_in_kubernetes_are_about_objects(
    source: str, key: str, shown: str, about: tuple[str, str]
) -> None:
    origin = Origin(source=source, key=key, shown=key)
    assert (str(origin), origin.kubernetes_object) == (shown, about)
