"""Variables of templates, `%%host%%` and others, and the tags of a target. Pure.

A text is read and written as the Datadog Cluster Agent does it, so that node agents get its bytes: `%%` becomes the per mille
sign, variables are replaced in values (not in keys), and what is left of the sign becomes `%%` again.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks.sources import environment
from checks.sources.kubernetes import gourl
from checks.sources.kubernetes.objects import Port
from checks.wire import goyaml, scalars, yamlnodes
from checks.wire.yamlnodes import InvalidYAML
from clusteragent.lib import spelling
from clusteragent.lib.words import listed

_SIGN = "‰"
# Strangers write the texts: no expression here may take longer than a few looks at each character.
_VARIABLE = re.compile(f"{_SIGN}([^\n{_SIGN}]++){_SIGN}")
_HOST = re.compile(f"{_SIGN}host(?:_[^\n{_SIGN}]+)?{_SIGN}")
# Variables that node agents know.
_ANYWHERE = ("host", "port", "pid", "hostname", "env", "extra", "kube")
_PORTS, _ALWAYS = ("%%port%%", "%%port_0%%", "%%port_NAME%%"), ("%%kube_namespace%%", "%%env_NAME%%")
_INDEX = re.compile(r"\+?[0-9]+", re.ASCII).fullmatch
_HOST_AND_PORT = re.compile(rf"{_HOST.pattern}:[0-9]").search


@dataclass(frozen=True, slots=True)
class Target:
    """What a template's variables stand for.

    host: empty when there is none, and then `hostless` says why. ports: `%%port%%` is the last one. portless: why there is
    none. tags: those that each instance gets.
    """

    namespace: str
    host: str
    ports: tuple[Port, ...]
    tags: tuple[str, ...]
    hostless: str = "there is no address"
    portless: str = "there is no port"


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment variables that templates may name. allowed: names in lower case; None: all but this program's secrets."""

    allowed: frozenset[str] | None = frozenset()
    values: Mapping[str, str] = field(default_factory=dict)


class Unresolved(ValueError):
    """A text can't be resolved. The message names the variable, if it is one, and holds no value."""


def resolve(text: str, target: Target, variables: Environment, tags: Sequence[str] = ()) -> str:
    """Return a template's text (YAML or JSON) with its variables resolved, as block YAML with sorted keys.

    tags: they are added to those of the text if it is a map. Raises Unresolved.
    """
    if text == "{}" and not tags:
        # Nearly every init_config.
        return "{}\n"
    try:
        root = goyaml.read(text.replace("%%", _SIGN))
        if root is None:
            return ""
        _resolve(root, lambda value: _resolved(value, target, variables))
        if tags and isinstance(root, MappingNode):
            goyaml.put(root, "tags", goyaml.texts_node(sorted({*_tags(root), *tags})))
        return goyaml.write(root)
    except InvalidYAML as error:
        raise Unresolved(error.problem) from None


def _tags(root: MappingNode) -> list[str]:
    """The map's tags. What is no list has none, and tags that are no texts are left out, as by the Datadog Cluster Agent."""
    node = yamlnodes.get(root, "tags")
    return [item.value for item in node.value if item.tag == scalars.STR] if isinstance(node, SequenceNode) else []


def _resolve(node: Node, resolved: Callable[[str], str | tuple[str, str]]) -> None:
    if isinstance(node, ScalarNode):
        # Escapes of YAML can hide a %% from the replacement in the text.
        if node.tag == scalars.STR and (_SIGN in node.value or "%%" in node.value):
            value = resolved(node.value)
            (node.tag, node.value) = (scalars.STR, value) if isinstance(value, str) else value
            node.style = scalars.style_of(node.value) if node.tag == scalars.STR else None
    elif isinstance(node, SequenceNode):
        for item in node.value:
            _resolve(item, resolved)
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            if found := _VARIABLE.search(key.value):
                raise Unresolved(f"{_shown(found)} is in a key: only values may hold variables")
            _resolve(value, resolved)


def _resolved(text: str, target: Target, variables: Environment) -> str | tuple[str, str]:
    """A text with its variables resolved; (tag, text) of what is no text any more."""
    whole = _VARIABLE.fullmatch(text)
    if ":" in target.host and _HOST.search(text):
        found = _with_ipv6(text, target, variables)
    else:
        found = _VARIABLE.sub(lambda match: _value(match, target, variables), text)
    if whole and _parts(whole)[0] != "env" and (value := environment.typed(found)):
        return value
    found = found.replace(_SIGN, "%%")
    if environment.BEGIN.search(found):
        # Node agents would resolve it in their own environment.
        raise Unresolved("%%env is left after its variables are resolved: it would name a variable of node agents")
    return found


def _with_ipv6(text: str, target: Target, variables: Environment) -> str:
    """The text with a host that is an IPv6 address: in brackets where it is a part of a URL or stands before a port."""
    text = _VARIABLE.sub(
        lambda match: match[0] if _parts(match)[0] == "host" else _value(match, target, variables), text
    )
    bracketed = _HOST.sub(f"[{target.host}]", text)
    is_url = gourl.is_url(_HOST.sub("127.0.0.1", text))
    if gourl.is_url(bracketed) if is_url else _HOST_AND_PORT(text):
        return bracketed
    return _HOST.sub(target.host, text)


def _parts(variable: re.Match[str]) -> tuple[str, str | None]:
    """Name and key of a variable, which stand before and behind the first underscore; a part that is empty is none."""
    name, _, key = variable[1][1:].partition("_")
    return (variable[1][0] + name, key) if key else (variable[1], None)


def _value(variable: re.Match[str], target: Target, variables: Environment) -> str:
    name, key = _parts(variable)
    if name == "host":
        if not target.host:
            raise Unresolved(f"{_shown(variable)}: {target.hostless}")
        return target.host
    if name == "port":
        return str(_port(variable, target))
    if (name, key) == ("kube", "namespace"):
        return target.namespace
    if name == "env":
        return _variable(variable, variables)
    # What is nothing like a variable may be a part of a password.
    shown = _shown(variable) if spelling.nearest(name, _ANYWHERE) else "what stands between two %%"
    there = [*(["%%host%%"] if target.host else []), *(_PORTS if target.ports else []), *_ALWAYS]
    raise Unresolved(f"{shown} is not known here: known are {listed(there, None)}")


def _port(variable: re.Match[str], target: Target) -> int:
    """The last port, that of an index, or that of a name."""
    _, key = _parts(variable)
    if not target.ports:
        raise Unresolved(f"{_shown(variable)}: {target.portless}")
    if key is None:
        return target.ports[-1].number
    if _INDEX(key):
        if len(key) > 9 or int(key) >= len(target.ports):
            raise Unresolved(f"{_shown(variable)}: there are {len(target.ports)} ports, counted from 0")
        return target.ports[int(key)].number
    for port in target.ports:
        if port.name == key:
            return port.number
    raise Unresolved(f"{_shown(variable)}: no port has this name")


def _variable(variable: re.Match[str], variables: Environment) -> str:
    """The value of an environment variable. Who annotates is not who runs this program, whose secrets are never read."""
    _, name = _parts(variable)
    if not name:
        raise Unresolved("%%env%% names no variable")
    if environment.holds_secret(name):
        raise Unresolved(f"{_shown(variable)}: configs never get this program's own secrets")
    if variables.allowed is not None and name.lower() not in variables.allowed:
        raise Unresolved(f"{_shown(variable)} may not be read: DD_AD_ALLOWED_ENV_VARS does not name it")
    if name not in variables.values:
        raise Unresolved(f"{_shown(variable)}: there is no such environment variable")
    return variables.values[name]


def _shown(variable: re.Match[str]) -> str:
    """The variable as it was written, in a form that fits a message."""
    name = variable[0].strip(_SIGN)
    printable = "".join(each if each.isprintable() else "\ufffd" for each in name[:60])
    return f"%%{printable}{'…' if len(name) > 60 else ''}%%"
