"""The format of config files: one file makes one config, as in the Datadog Agent's file provider.

Texts are taken from composed YAML nodes, not from Python values, so that every scalar keeps its spelling.
"""

import os
import re

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks.sources import environment
from checks.wire import lint, yamlerrors, yamlnodes
from checks.wire.patching import IntegrationConfig
from checks.wire.yamlnodes import InvalidYAML
from clusteragent.lib import conf

PROVIDER = "file"
_VARIABLE = re.compile(r"%%env(?:_([^%]*))?%%")


def parse(text: str, *, name: str, source: str, is_file: bool = False) -> IntegrationConfig:
    """Return the config of check `name` that a text makes. Raises InvalidYAML, with the line if it is known.

    is_file: environment variables are resolved. Only people who can write a file on the server may read its environment, so
    elsewhere variables are refused, whether they exist or not and however YAML spells them.
    """
    root = _root(text)
    if not is_file:
        _refuse_variables(root)
    ad_identifiers = [*_texts(root, "ad_identifiers"), *_selected(root)]
    advanced = _items(root, "advanced_ad_identifiers")
    node_name = _text(root, "node_name")
    instances, jmx_metrics, logs = _instances(root), _part(root, "jmx_metrics"), _part(root, "logs")
    if not (instances or jmx_metrics or logs):
        raise _without_instances(root)
    init_config = _part(root, "init_config")
    for instance in () if is_file else instances:
        # Files that an older version took go on, with a warning.
        if isinstance(instance, MappingNode) and (wrong := lint.wrong_interval(instance)):
            raise InvalidYAML(wrong[1], wrong[0])
    if is_file and (node_name or not (ad_identifiers or advanced)):
        # A template's variables are resolved by the program that fills it in.
        for part in (*instances, init_config, jmx_metrics, logs):
            _resolve(part)
    return IntegrationConfig(
        name=name,
        instances=tuple(map(yamlnodes.write, instances)),
        init_config=_written(init_config),
        metric_config=_written(jmx_metrics),
        logs=None if logs is None else yamlnodes.write(yamlnodes.mapping(logs=logs)),
        ad_identifiers=tuple(ad_identifiers),
        # As maps and lists of texts.
        advanced_ad_identifiers=tuple(yaml.load(yamlnodes.write(node), yaml.CBaseLoader) for node in advanced),  # noqa: S506
        provider=PROVIDER,
        cluster_check=_flag(root, "cluster_check"),
        node_name=node_name,
        source=source,
        ignore_autodiscovery_tags=_flag(root, "ignore_autodiscovery_tags"),
        check_tag_cardinality=_text(root, "check_tag_cardinality"),
    )


def _root(text: str) -> MappingNode:
    root = yamlnodes.compose(text)
    _, rest = yamlnodes.documents(text)
    if yamlnodes.is_null(root) and yamlnodes.says_something(rest):
        raise InvalidYAML("its first document is empty, and only the first one is read")
    if root is None:
        raise InvalidYAML("is empty" if not text.strip() else "has nothing but comments")
    if isinstance(root, SequenceNode):
        raise InvalidYAML(
            "is not a map with keys such as init_config and instances, but a list: put it under instances", root
        )
    if not isinstance(root, MappingNode):
        raise InvalidYAML("is not a map with keys such as init_config and instances", root)
    _refuse_repeated_keys(root)
    yamlnodes.normalise(root)
    return root


def _without_instances(root: MappingNode) -> InvalidYAML:
    """The error for a text without instances: it names where instances are, if anywhere."""
    for top, key in lint.nested(root, "instances"):
        return InvalidYAML(f"has no instances at the top level: move them there from {top}", key)
    for key, known in lint.misspelt(root):
        if known == "instances":
            return InvalidYAML("has no instances: this key is meant for instances", key)
    if stray := [key for key in lint.unread(root) if not lint.is_private(key)]:
        if yamlerrors.lacks_blank(stray[0].value):
            return InvalidYAML(yamlerrors.NO_BLANK, stray[0])
        return InvalidYAML(
            "has no instances: keys like this one belong in one, after a dash below `instances:`", stray[0]
        )
    stands = next((key for key, _ in root.value if key.value == "instances"), root)
    return InvalidYAML("has no instances", stands)


def _refuse_repeated_keys(root: MappingNode) -> None:
    """Raise InvalidYAML for equal keys: parsers take the last, so a second `instances` would silently drop those of the first."""
    seen = set()
    for key, _ in root.value:
        if isinstance(key, ScalarNode) and key.tag == yamlnodes.STR:
            if key.value in seen:
                twice = f"the key {key.value[:100]} occurs twice"
                raise InvalidYAML(yamlerrors.NO_BLANK if yamlerrors.lacks_blank(key.value) else twice, key)
            seen.add(key.value)


def _instances(root: MappingNode) -> list[Node]:
    if isinstance(node := _part(root, "instances"), MappingNode):
        if dashed := [
            key for key, _ in node.value if isinstance(key, ScalarNode) and yamlerrors.lacks_blank(key.value)
        ]:
            raise InvalidYAML(yamlerrors.NO_BLANK, dashed[0])
        raise InvalidYAML("instances is not a list: put a dash before the first key of each", node)
    instances = _items(root, "instances")
    for number, instance in enumerate(instances):
        if yamlnodes.is_null(instance):
            instances[number] = yamlnodes.mapping()
        elif not isinstance(instance, MappingNode):
            raise InvalidYAML("an instance is not a map", instance)
    return instances


def _part(root: MappingNode, key: str) -> Node | None:
    """The value of the key; None when it is null."""
    node = yamlnodes.get(root, key)
    return None if yamlnodes.is_null(node) else node


def _items(root: MappingNode, key: str) -> list[Node]:
    node = _part(root, key)
    if node is None:
        return []
    if not isinstance(node, SequenceNode):
        raise InvalidYAML(f"{key} is not a list", node)
    return list(node.value)


def _texts(root: MappingNode, key: str) -> list[str]:
    items = _items(root, key)
    for item in items:
        if not isinstance(item, ScalarNode) or yamlnodes.is_null(item):
            raise InvalidYAML(f"an item of {key} is not a text", item)
    return [item.value for item in items]


def _selected(root: MappingNode) -> list[str]:
    """What the rules of `cel_selector` select, as the identifiers under which agents know such templates."""
    node = _part(root, "cel_selector")
    if node is not None and not isinstance(node, MappingNode):
        raise InvalidYAML("cel_selector is not a map with lists of rules", node)
    return (
        [f"cel://{key.value.removesuffix('s')}" for key, rules in node.value if not yamlnodes.is_null(rules)]
        if node
        else []
    )


def _text(root: MappingNode, key: str) -> str:
    node = _part(root, key)
    if node is not None and not isinstance(node, ScalarNode):
        raise InvalidYAML(f"{key} is not a text", node)
    return node.value if node is not None else ""


def _flag(root: MappingNode, key: str) -> bool:
    node = _part(root, key)
    if node is not None and node.tag != yamlnodes.BOOL:
        raise InvalidYAML(f"{key} is neither true nor false (without quotes)", node)
    return node is not None and yamlnodes.is_true(node)


def _written(node: Node | None) -> str | None:
    return None if node is None else yamlnodes.write(node)


def _refuse_variables(root: Node) -> None:
    """Raise InvalidYAML for an %%env_...%% variable in any key or value of a tree."""
    scalars = [node for node in yamlnodes.nodes(root) if isinstance(node, ScalarNode)]
    found = [node for node in scalars if environment.BEGIN.search(node.value)]
    if found:
        first = min(found, key=lambda node: node.start_mark.index)
        raise InvalidYAML("only files may name environment variables (%%env_...%%)", first)


def _resolve(node: Node | None) -> None:
    """Replace each %%env_NAME%% of a tree with the value of the environment variable, as the agent does.

    Only values are replaced, and other kinds of variables stay. A value that is nothing but a variable becomes a number or a
    boolean when it reads as one: `0123` is octal. Raises InvalidYAML for a variable that can't be resolved.
    """
    if isinstance(node, ScalarNode):
        _resolve_scalar(node)
    elif isinstance(node, SequenceNode):
        for item in node.value:
            _resolve(item)
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            if _VARIABLE.search(key.value):
                raise InvalidYAML("a key holds an %%env_...%% variable: only values may", key)
            _resolve(value)


def _resolve_scalar(node: ScalarNode) -> None:
    if "%%env" not in node.value:
        return
    whole = _VARIABLE.fullmatch(node.value)
    text = _VARIABLE.sub(lambda match: _environment(match[1], node), node.value)
    if whole and (value := environment.typed(text)):
        (node.tag, node.value), node.style = value, None
    else:
        yamlnodes.set_text(node, text)


def _environment(name: str | None, node: Node) -> str:
    if not name:
        raise InvalidYAML("%%env%% names no variable", node)
    if environment.holds_secret(name):
        raise InvalidYAML(f"%%env_{name}%%: configs never get this program's own secrets", node)
    allowed = not conf.AD_ALLOWED_ENV_VARS or name.lower() in conf.AD_ALLOWED_ENV_VARS
    if conf.AD_DISABLE_ENV_VAR_RESOLUTION or not allowed:
        raise InvalidYAML(f"%%env_{name}%%: the options forbid this variable in configs", node)
    if name not in os.environ:
        raise InvalidYAML(f"%%env_{name}%%: there is no such environment variable", node)
    return os.environ[name]
