"""Simulated runners report their checks under the IDs by which the dispatcher knows them."""

from checks.wire import patching
from checks.wire.patching import IntegrationConfig
from simulation.client import read_configs
from simulation.runners import works
from tests.table import table


@table("init_config", [None, "", "{}", "a: 1\n"])
@table(
    "instances",
    [
        ("url: https://shop.example.com\nname: shop",),
        ("name: a b:c", "namespace: lab", "a: 1"),
        ("name: 1.10",),
        ("{name: ~, namespace: lab}",),
        ("{name: null}",),
        ("{name: [x], namespace: lab}",),
        ("{name: '', namespace: lab}",),
        ("name: ä",),
    ],
)
def test_their_check_ids_are_the_dispatchers(instances, init_config):
    patched = patching.patch(IntegrationConfig("http_check", instances, init_config), ["env:prod"])
    _, [config] = read_configs(b'{"last_change":1,"configs":[' + patched.wire + b"]}")
    assert tuple(work.check_id for work in works(config, 0)) == patched.check_ids
