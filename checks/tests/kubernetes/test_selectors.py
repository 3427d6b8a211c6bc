"""Files that are templates for Services or endpoints, by name or by rules in CEL."""

import pytest

from checks.sources.kubernetes import objects, selectors
from checks.sources.kubernetes.configs import Made, Options
from checks.sources.kubernetes.selectors import Named, Selector
from checks.sources.kubernetes.variables import Environment
from checks.tests.kubernetes.cast import endpoint, endpoint_slice, problems, service
from checks.wire.yamlnodes import InvalidYAML
from tests.table import table

CHECK = "init_config:\ninstances:\n- url: 'http://%%host%%:%%port%%/'\n"
OF_SERVICE = f"advanced_ad_identifiers:\n- kube_service: {{name: web, namespace: shop}}\n{CHECK}"
OF_ENDPOINTS = f"advanced_ad_identifiers:\n- kube_endpoints: {{name: web, namespace: shop, resolve: auto}}\n{CHECK}"
KEY = "http_check.d/shop.yaml"


def read(text: str) -> Selector:
    found = selectors.read(text, key=KEY, check="http_check")
    assert found is not None
    return found


def by_rules(kind: str, *rules: str) -> str:
    return f"cel_selector:\n  {kind}:\n" + "".join(f"  - '{rule}'\n" for rule in rules) + CHECK


def made_of(
    text: str, name: str = "web", annotations: dict[str, str] | None = None, *, options: Options | None = None
) -> Made:
    """What a file makes of a Service with one endpoint."""
    one = endpoint_slice(endpoint())
    one["metadata"]["labels"] = {"kubernetes.io/service-name": name}
    of_service, of_slice = objects.read_service(service(annotations, name=name)), objects.read_slice(one)
    assert of_service is not None
    assert of_slice is not None
    return selectors.make(read(text), of_service, [of_slice], options or Options())


def test_a_file_for_a_service():
    made = made_of(OF_SERVICE)
    assert list(made.configs) == ["file/http_check.d/shop.yaml/service/shop/web/http_check"]
    (config,) = made.configs.values()
    assert (config.name, config.provider, config.source) == ("http_check", "kubernetes-services-file", f"file:{KEY}")
    assert (config.service_id, config.init_config, config.cluster_check) == ("kube_service://shop/web", None, True)
    assert config.instances == ("tags:\n- kube_namespace:shop\n- kube_service:web\nurl: http://10.96.0.1:8080/\n",)
    assert not config.is_template
    assert made_of(OF_SERVICE, "other") == Made()


@table("text", [OF_SERVICE, OF_ENDPOINTS])
def test_a_cardinality_of_tags_changes_nothing(text):
    made = made_of(f"check_tag_cardinality: high\n{text}")
    assert made == made_of(text)
    assert [config.check_tag_cardinality for config in made.configs.values()] == [""]


def test_a_file_for_endpoints():
    made = made_of(OF_ENDPOINTS)
    assert list(made.configs) == ["file/http_check.d/shop.yaml/endpoints/shop/web/10.244.0.7/http_check"]
    (config,) = made.configs.values()
    assert (config.provider, config.source, config.node_name) == ("kubernetes-endpoints-file", f"file:{KEY}", "ash")
    assert made_of(OF_ENDPOINTS, "other") == Made()


@table(
    ("resolve", "node", "warned"),
    [("auto", "ash", False), ("ip", "", False), ("''", "ash", False), ("pod", "ash", True)],
)
def test_how_a_file_resolves_endpoints(resolve, node, warned):
    text = OF_ENDPOINTS.replace("auto", resolve)
    assert [config.node_name for config in made_of(text).configs.values()] == [node]
    warning = "kube_endpoints: resolve is neither ip nor auto, so auto is taken"
    assert read(text).warnings == ((warning,) if warned else ())


def test_a_file_may_name_several_of_both_kinds():
    text = f"""advanced_ad_identifiers:
- kube_service: {{name: web, namespace: shop}}
  kube_endpoints: {{name: web, namespace: shop}}
- kube_service: {{name: api, namespace: shop}}
- crd: {{gvr: x}}
{CHECK}"""
    found = read(text)
    assert found.services == {Named("shop", "web"), Named("shop", "api")}
    assert found.endpoints == {Named("shop", "web"): True}
    assert len(made_of(text).configs) == 2
    assert len(made_of(text, "api").configs) == 1


def test_a_file_reads_the_environment_as_other_files_do():
    text = OF_SERVICE.replace("%%port%%", "%%env_PORT%%")
    options = Options(Environment(None, {"PORT": "81", "DD_API_KEY": "hunter2"}))
    (config,) = made_of(text, options=options).configs.values()
    assert "http://10.96.0.1:81/" in config.instances[0]
    refused = made_of(text.replace("PORT", "DD_API_KEY"), options=options)
    assert problems(refused) == [
        f"service shop/web: file:{KEY}: %%env_DD_API_KEY%%: configs never get this program's own secrets"
    ]


def test_tags_and_init_config_of_a_file():
    text = OF_SERVICE.replace("init_config:", "init_config: {a: '%%host%%'}\nignore_autodiscovery_tags: true")
    (config,) = made_of(text).configs.values()
    assert (config.init_config, config.instances) == ("a: 10.96.0.1\n", ("url: http://10.96.0.1:8080/\n",))


@pytest.mark.parametrize("name", ["exclude", "metrics_exclude"])
def test_excluded_services_have_no_checks_of_files(name):
    assert made_of(OF_SERVICE, annotations={name: "true"}) == Made()


@table(
    "text",
    [
        CHECK,
        f"ad_identifiers: [redis]\n{CHECK}",
        f"advanced_ad_identifiers:\n- crd: {{gvr: x}}\n{CHECK}",
        f"node_name: ash\n{OF_SERVICE}",
        f"cel_selector: {{containers: ['container.name == \"x\"']}}\n{CHECK}",
        f"cel_selector:\n{CHECK}",
    ],
)
def test_other_files_are_none(text):
    assert selectors.read(text, key=KEY, check="http_check") is None


@table(
    ("text", "error"),
    [
        ("{name: web}", "advanced_ad_identifiers: kube_service needs a name and a namespace, both as texts"),
        (
            "{name: web, namespace: []}",
            "advanced_ad_identifiers: kube_service needs a name and a namespace, both as texts",
        ),
        ("web", "advanced_ad_identifiers: kube_service needs a name and a namespace, both as texts"),
    ],
)
def test_a_file_that_names_no_service_is_an_error(text, error):
    with pytest.raises(InvalidYAML, match=error):
        read(OF_SERVICE.replace("{name: web, namespace: shop}", text))


SELECTS_WEB = 'kube_service.name == "web" && kube_service.namespace == "shop"'


# Runs through a million pairs.
LONG = "{0}.all(a, {0}.all(b, a * b > 0))".format("[" + ",".join(["1"] * 1000) + "]")


def test_rules_have_no_effect_beside_names():
    text = by_rules("kube_services", SELECTS_WEB).replace(CHECK, OF_SERVICE)
    assert read(text).warnings == ("cel_selector has no effect beside advanced_ad_identifiers",)
    assert len(made_of(text).configs) == 1


@table(
    ("selector", "error"),
    [
        ("[x]", "cel_selector is not a map with lists of rules"),
        ("{kube_services: x}", "cel_selector: kube_services is not a list of texts"),
        ("{kube_services: [[x]]}", "cel_selector: kube_services is not a list of texts"),
        ("{kube_services: ['true']}", "cel_selector: kube_services: rules must ask for kube_service.name, "
         "so that they select no more than meant"),
        ("{kube_endpoints: ['kube_endpoint.name == \"x\"']}", "cel_selector: kube_endpoints: rules must ask for "
         "kube_endpoint.namespace, so that they select no more than meant"),
    ],
)  # fmt: skip
def test_rules_that_cant_be_read(selector, error):
    with pytest.raises(InvalidYAML, match=error):
        read(f"cel_selector: {selector}\n{CHECK}")


@table(
    ("rules", "names"),
    [
        ([SELECTS_WEB], ["web"]),
        ([f"{SELECTS_WEB} && kube_service.annotations['a/b'] == 'c'".replace("'", '"')], ["web"]),
        ([SELECTS_WEB, 'kube_service.name.startsWith("ap")'], ["web", "api"]),
        (['kube_service.name.matches("^.{3}$") && kube_service.namespace in ["shop", "x"]'], ["web", "api"]),
        # What fails for an object does not select it.
        ([f'{SELECTS_WEB} && kube_service.annotations["none"] == "c"'], []),
        ([f'{SELECTS_WEB} && kube_service.name.matches("(")'], []),
        ([f"{SELECTS_WEB} && {LONG}", 'kube_service.name.startsWith("ap")'], ["api"]),
    ],
)
def test_rules_select_services(rules, names):
    text = by_rules("kube_services", *rules)
    assert [name for name in ("web", "api", "other") if made_of(text, name, {"a/b": "c"}).configs] == names


def test_rules_select_endpoints():
    text = by_rules("kube_endpoints", 'kube_endpoint.name == "web" && kube_endpoint.namespace != ""')
    assert [config.provider for config in made_of(text).configs.values()] == ["kubernetes-endpoints-file"]
    assert made_of(text, "other") == Made()


@table(
    ("rule", "error"),
    [
        ('kube_service.nam == "x"', "at 1:13: undeclared reference to 'kube_service.nam'"),
        ("kube_service.name ==", "at 1:21: Syntax error"),
        ("kube_service.name", "is neither true nor false"),
        ("kube_service.name == 5", "found no matching overload for '_==_' applied to '(string, int)'"),
        (f"{'(' * 5000}true{')' * 5000}", "ecursion limit"),
    ],
)
def test_a_rule_that_does_not_compile_is_an_error(rule, error):
    with pytest.raises(InvalidYAML) as raised:
        read(by_rules("kube_services", rule, 'kube_service.namespace == "" && kube_service.name == ""'))
    assert error in raised.value.problem
