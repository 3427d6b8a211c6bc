"""What annotations say: both forms, as the Datadog Agent's JSON library reads them, and what is said of mistakes."""

import json

import pytest

from checks.sources.kubernetes import annotations
from checks.sources.kubernetes.annotations import ENDPOINTS, OLD_PREFIX, PREFIX, SERVICE, Annotated
from checks.tests.kubernetes.cast import annotated, instance, problems
from tests.table import table

CHECKS = f"{PREFIX}service.checks"


def of_checks(text: str) -> Annotated:
    return annotations.read({CHECKS: text}, SERVICE)


def of_lists(names: object, init_configs: object, instances: object, prefix: str = PREFIX, **others: str) -> Annotated:
    values = {"check_names": names, "init_configs": init_configs, "instances": instances}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    return annotations.read({f"{prefix}service.{name}": text for name, text in (texts | others).items()}, SERVICE)


def said(found: Annotated) -> list[tuple[str, str, tuple[str, ...], str]]:
    assert found.errors == {}
    return [(each.key, each.name, each.instances, each.init_config) for each in found.templates]


def test_a_check_has_all_its_instances():
    found = of_checks(
        '{"http_check": {"init_config": {"a" : 1.0},"instances": [{"b": 1}, {"c": 2.50}]}, "ntp": {"instances": [{}]}}'
    )
    assert said(found) == [
        # The text of init_config stays as it is, instances are written anew.
        ("http_check", "http_check", ('{"b":1}', '{"c":2.5}'), '{"a" : 1.0}'),
        ("ntp", "ntp", ("{}",), "{}"),
    ]


@table(
    ("text", "expected"),
    [
        # Names of fields in any case; of equal ones, and of equal checks, the last.
        ('{"a": {"Instances": [{"x": 1}], "INIT_CONFIG": {"y": 1}}}', ("a", "a", ('{"x":1}',), '{"y": 1}')),
        ('{"a": {"instances": [{"x": 1}], "Instances": [{"x": 2}]}}', ("a", "a", ('{"x":2}',), "{}")),
        ('{"a": {"instances": [{"x": 1}]}, "a": {"instances": [{"x": 2}]}}', ("a", "a", ('{"x":2}',), "{}")),
        ('{"a": {"instances": [{"x": 1, "x": 2}]}}', ("a", "a", ('{"x":2}',), "{}")),
        # The name of the check may be given apart.
        ('{"a": {"name": "b", "instances": [{}]}}', ("a", "b", ("{}",), "{}")),
        ('{"a": {"name": "", "instances": [{}]}}', ("a", "a", ("{}",), "{}")),
        # Null is as good as absent; for init_config it is null.
        ('{"a": {"name": null, "instances": [{}], "ignore_autodiscovery_tags": null}}', ("a", "a", ("{}",), "{}")),
        ('{"a": {"init_config": null, "instances": [{}]}}', ("a", "a", ("{}",), "null")),
        # Unknown fields are not read, and the cardinality changes no tag of a Service.
        ('{"a": {"other": [1], "check_tag_cardinality": "high", "instances": [{}]}}', ("a", "a", ("{}",), "{}")),
        (' \r\n\t{"a" : {"instances" : [ { } ] } }\n', ("a", "a", ("{}",), "{}")),
        # A half of a surrogate pair becomes the replacement character.
        (
            r'{"a\ud800": {"instances": [{"\udc00": "\ud83d\ude00"}]}}',
            ("a%EF%BF%BD", "a\ufffd", ('{"\ufffd":"😀"}',), "{}"),
        ),
        # No name can make a key look like another's, or like a shard's.
        ('{"a/2#1": {"instances": [{}]}}', ("a%2F2%231", "a/2#1", ("{}",), "{}")),
    ],
)
def test_json_is_read_as_the_agents_library_does(text, expected):
    assert said(of_checks(text)) == [expected]


@table(
    ("number", "expected"),
    [
        ("1", "1"), ("1.0", "1"), ("-0", "-0"), ("1e3", "1000"), ("1E400", None), ("0.1", "0.1"), ("1e-6", "0.000001"),
        ("1e-7", "1e-7"), ("1.5e-10", "1.5e-10"), ("123456789012345678", "123456789012345680"), ("1e20", "100000000000000000000"),
        ("1e21", "1e+21"), ("12345678901234567890123", "1.2345678901234568e+22"), ("5e-324", "5e-324"), ("9" * 5000, None),
    ],
)  # fmt: skip
def test_numbers_of_instances_are_floats_of_64_bits(number, expected):
    found = of_checks(f'{{"a": {{"instances": [{{"x": {number}}}]}}}}')
    if expected is None:
        assert found.errors == {"": f"{CHECKS} holds a number that is too large"}
    else:
        assert found.templates[0].instances == (f'{{"x":{expected}}}',)


def test_numbers_reach_agents_as_the_peer_sends_them():
    text = '{"a": 1.0, "b": 12345678901234567890123, "c": 1e20, "d": -0, "e": "1", "f": 1e-7}'
    assert instance(text) == 'a: 1\nb: 1.2345678901234568e+22\nc: 1e+20\nd: 0\ne: "1"\nf: 1e-07\n'


@table(
    ("text", "error"),
    [
        ("", f"{CHECKS} is empty"),
        (" \n", f"{CHECKS} is empty"),
        ('{"a" 1}', f"{CHECKS} is not JSON: expecting ':' delimiter at character 6"),
        ('{\n"a": [1,\n}', f"{CHECKS} is not JSON: expecting value at line 3, character 1"),
        ('{"a": %%port%%}', f"{CHECKS} is not JSON: a variable without quotes at character 7"),
        ('{} {}', f"{CHECKS} is not JSON: extra data at character 4"),
        ('{"a": NaN}', f"{CHECKS} is not JSON: it holds NaN, which is no number there"),
        ('{"a": -Infinity}', f"{CHECKS} is not JSON: it holds -Infinity, which is no number there"),
        ('{"a": "\n"}', f"{CHECKS} is not JSON: invalid control character at line 1, character 8"),
        ("\ufeff{}", f"{CHECKS} is not JSON: expecting value at character 1"),
        ("[" * 100_000, f"{CHECKS} nests too deep"),
        ("null", f'{CHECKS} is not a map of checks, such as {{"http_check": {{"instances": [{{…}}]}}}}'),
        ("[]", f'{CHECKS} is not a map of checks, such as {{"http_check": {{"instances": [{{…}}]}}}}'),
    ],
)  # fmt: skip
def test_what_is_no_json_of_a_map_breaks_all_of_it(text, error):
    found = of_checks(text)
    assert (found.templates, found.errors) == ([], {"": error})


@table(
    ("check", "error"),
    [
        ("{}", "has no instances"),
        ("null", "has no instances"),
        ('{"instances": []}', "has no instances"),
        ('{"instances": null}', "has no instances"),
        ('{"instance": [{}]}', "has no instances: instance may be meant for them"),
        ("[]", 'is not a map, such as {"instances": [{…}]}'),
        ('"x"', 'is not a map, such as {"instances": [{…}]}'),
        ('{"instances": {}}', ": instances is not a list"),
        ('{"instances": [{}, [{}]]}', ': an instance is not a map, such as {"host": "%%host%%"}'),
        ('{"instances": [null]}', ': an instance is not a map, such as {"host": "%%host%%"}'),
        ('{"instances": ["hunter2"]}', ': an instance is not a map, such as {"host": "%%host%%"}'),
        ('{"instances": [{}], "name": 5}', ": name is not a text"),
        ('{"instances": [{}], "ignore_autodiscovery_tags": "true"}',
         ": ignore_autodiscovery_tags is not true or false (without quotes)"),
        (f'{{"instances": [{{"a": {"[" * 60}{"]" * 60}}}]}}', ": an instance nests too deep"),
    ],
)  # fmt: skip
def test_a_broken_check_leaves_the_others_alone(check, error):
    found = of_checks(f'{{"bad": {check}, "ntp": {{"instances": [{{}}]}}}}')
    message = f"{CHECKS}, bad{error}" if error.startswith(":") else f"{CHECKS}, bad {error}"
    assert found.errors == {"bad": message}
    assert [template.name for template in found.templates] == ["ntp"]


@table(
    ("name", "error"),
    [("", "is empty"), ("a" * 254, "is too long"), ("é" * 50, "is too long"), ("a" * 253, None), ("a\0b", None)],
)
def test_the_name_of_a_check_fits_into_a_key(name, error):
    found = of_checks(json.dumps({name: {"instances": [{}], "name": "ntp"}}))
    assert found.errors == ({"": f"{CHECKS}: the name of a check {error}"} if error else {})
    assert len(found.templates) == (not error)
    assert all("\0" not in template.key + template.place for template in found.templates)


def test_one_object_has_only_so_many_instances():
    many = [{}] * (annotations.MOST_INSTANCES + 1)
    for found in (of_checks(json.dumps({"a": {"instances": many}})), of_lists(["a"], [{}], [many])):
        assert found.templates == []
        assert found.errors == {"": f"{PREFIX}service has 501 instances, allowed are 500"}
    assert len(of_lists(["a"], [{}], [many[1:]]).templates) == annotations.MOST_INSTANCES


def test_lists_make_a_config_of_each_instance():
    found = of_lists(["http", "tcp"], [{"i": 1.0}, [{}]], [[{"a": 1}, {"b": 2}], {"c": 3}])
    assert said(found) == [
        ("http", "http", ('{"a":1}',), '{"i":1}'),
        ("http/2", "http", ('{"b":2}',), '{"i":1}'),
        ("tcp", "tcp", ('{"c":3}',), "{}"),
    ]


def test_instances_of_a_check_that_is_listed_twice_are_counted_on():
    assert [key for key, *_ in said(of_lists(["a", "b", "a"], [{}, {}, {}], [{}, {}, {}]))] == ["a", "b", "a/2"]


def test_a_check_keeps_its_key_when_it_is_written_in_the_other_form():
    (one,), (other,) = said(of_checks('{"a": {"instances": [{}]}}')), said(of_lists(["a"], [{}], [{}]))
    assert one[0] == other[0]


@table(
    ("names", "init_configs", "instances", "error"),
    [
        (["a", "b"], [{}], [{}, {}], "check_names, init_configs and instances have different lengths: 2, 1 and 2"),
        # An empty list is no entry.
        (["a"], [{}], [[]], "check_names, init_configs and instances have different lengths: 1, 1 and 0"),
        (["a"], [{}], None, "check_names, init_configs and instances have different lengths: 1, 1 and 0"),
        (["a"], [[{}, {}]], [{}], "init_configs has not one map for each check"),
        (["a"], [{}], [["x"]], 'instances: an item is not a map, such as {"host": "%%host%%"}'),
        (["a"], [None], [{}], 'init_configs: an item is not a map, such as {"host": "%%host%%"}'),
        (["a"], {}, [{}], "init_configs is not a list"),
        ("a", [{}], [{}], "check_names is not JSON: expecting value at character 1"),
        ([1], [{}], [{}], "check_names is not a list of texts"),
        ([None], [{}], [{}], "check_names: the name of a check is empty"),
        ("", [{}], [{}], "check_names is empty"),
    ],
)
def test_lists_that_do_not_fit_make_nothing(names, init_configs, instances, error):
    found = of_lists(names, init_configs, instances)
    assert (found.templates, found.errors) == ([], {"": f"{PREFIX}service.{error}"})


def test_all_three_lists_are_needed():
    found = annotations.read({f"{PREFIX}service.instances": "[{}]"}, SERVICE)
    assert found.errors == {
        "": f"{PREFIX}service.check_names and {PREFIX}service.init_configs missing: "
        "checks need all of check_names, init_configs and instances"
    }


def test_empty_lists_say_nothing():
    assert of_lists([], [], []) == Annotated()


@pytest.mark.parametrize("checks", ['{"http_check": {"instances": [{}]}}', "broken"])
def test_beside_checks_the_lists_are_not_read_even_if_checks_are_broken(checks):
    found = of_lists(["tcp"], [{}], [{}], checks=checks)
    assert [template.name for template in found.templates] == ["http_check"] * (checks != "broken")
    assert bool(found.errors) == (checks == "broken")


def test_the_old_prefix_counts_for_lists_where_the_new_one_is_not():
    assert [name for _, name, *_ in said(of_lists(["old"], [{}], [{}], OLD_PREFIX))] == ["old"]
    assert annotations.read({f"{OLD_PREFIX}service.checks": '{"a": {"instances": [{}]}}'}, SERVICE) == Annotated()
    both = {f"{OLD_PREFIX}service.{name}": text for name, text in (("check_names", '["old"]'), ("init_configs", "[{}]"),
                                                                    ("instances", "[{}]"))}  # fmt: skip
    both |= {key.replace(OLD_PREFIX, PREFIX): text.replace("old", "new") for key, text in both.items()}
    assert [template.name for template in annotations.read(both, SERVICE).templates] == ["new"]


@table(
    ("text", "ignores"),
    [("true", True), ("T", True), ("1", True), ("TRUE", True), ("yes", False), ("tRue", False), ("", False)],
)
def test_ignoring_tags_is_written_beside_lists(text, ignores):
    assert of_lists(["a"], [{}], [{}], ignore_autodiscovery_tags=text).templates[0].ignores_tags is ignores


def test_ignoring_tags_is_a_field_of_a_check():
    found = of_checks('{"a": {"instances": [{}], "ignore_autodiscovery_tags": true}, "b": {"instances": [{}]}}')
    assert [template.ignores_tags for template in found.templates] == [True, False]


def test_services_and_endpoints_have_their_own_annotations():
    text = '{"a": {"instances": [{}]}}'
    assert annotations.read({CHECKS: text}, ENDPOINTS) == Annotated()
    assert said(annotations.read({f"{PREFIX}endpoints.checks": text}, ENDPOINTS)) == said(of_checks(text))


def test_logs_are_passed_over_with_the_reason():
    reason = "logs are collected by node agents, not by cluster checks"
    assert annotations.read({f"{PREFIX}service.logs": "[{}]"}, SERVICE).passed_over == [
        f"{PREFIX}service.logs: {reason}"
    ]
    also_empty = '"c": {"logs": [], "instances": [{}]}'
    found = of_checks(
        f'{{"a": {{"logs": [{{"type": "x"}}]}}, "b": {{"instances": [{{}}], "logs": [{{}}]}}, {also_empty}}}'
    )
    assert found.passed_over == [f"{CHECKS}, a and b: {reason}"]
    assert (found.errors, [template.name for template in found.templates]) == ({}, ["b", "c"])


def test_fields_that_are_nearly_right_are_told():
    found = of_checks('{"http_check": {"instances": [{}], "init_confg": {"a": 1}, "instancs": [], "other": 1}}')
    assert (len(found.templates), found.errors) == (1, {})
    assert found.warnings == [
        f"{CHECKS}, http_check: init_confg is not read: init_config may be meant",
        f"{CHECKS}, http_check: instancs is not read: instances may be meant",
    ]


def test_only_so_many_errors_are_told():
    found = of_checks(json.dumps({f"c{number}": {} for number in range(1000)}))
    assert len(found.errors) == annotations.MOST_ERRORS + 1
    assert found.errors[""] == f"{PREFIX}service: 980 more are broken"


@table(
    ("name", "value", "excluded"),
    [
        ("exclude", "true", True), ("exclude", "1", True), ("exclude", "t", True), ("exclude", "false", False),
        ("exclude", "yes", False), ("metrics_exclude", "TRUE", True), ("logs_exclude", "true", False),
        ("service.exclude", "true", False),
    ],
)  # fmt: skip
def test_excludes(name, value, excluded):
    assert annotations.is_excluded({f"{PREFIX}{name}": value}) is excluded


@table(
    ("name", "meant"),
    [
        ("service.check", "service.checks"), ("services.checks", "service.checks"), ("endpoint.checks", "endpoints.checks"),
        ("service.instance", "service.instances"), ("endpoints.resolv", "endpoints.resolve"),
        ("nginx.checks", ""), ("service.check.id", ""), ("exclude", ""), ("service.logs", ""),
    ],
)  # fmt: skip
def test_a_name_that_is_nearly_one_that_is_read_is_a_warning(name, meant):
    made = annotated({name: "x"})
    expected = [f"service shop/web: {PREFIX}{name} is not read: {PREFIX}{meant} may be meant"] if meant else []
    assert [str(warning) for warning in made.warnings] == expected


def test_problems_name_the_service_and_hold_no_values():
    made = annotated(
        {"service.checks": '{"a": {"instances": ["hunter2"]}, "b": {"name": ["hunter2"]}, "c": {"x": "hunter2"}}'}
    )
    assert problems(made) == [
        f'service shop/web: {CHECKS}, a: an instance is not a map, such as {{"host": "%%host%%"}}',
        f"service shop/web: {CHECKS}, b: name is not a text",
        f"service shop/web: {CHECKS}, c has no instances",
    ]
