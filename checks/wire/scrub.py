"""Hides secrets in YAML trees. Which keys and texts are secret is decided in clusteragent.lib.scrub."""

import re

from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks.wire import yamlnodes
from clusteragent.lib.scrub import (
    MASK,
    VERSION,
    is_empty_or_handle,
    is_key_file,
    is_secret,
    may_hold_secrets,
    scrub,
    scrub_value,
)

__all__ = ["MASK", "VERSION", "hide", "is_secret", "may_hold_secrets", "scrub"]

# Keys of a map with a name and a value: first those of the name, then those of the value.
_NAMES = re.compile(
    r"\w*(?:name|key)|header|variable|var|env|param(?:eter)?|option|property|field|attribute|id|k|n", re.IGNORECASE
)
_is_name = re.compile(r"[\w.-]+").fullmatch
_VALUES = re.compile(r"\w*value|val|v|contents?|data|default|text", re.IGNORECASE)


def hide(node: Node, secret: bool = False, key: str = "") -> None:
    """Hide the secrets of a tree in place. secret: hide the whole tree. key: the key whose value the tree is."""
    if isinstance(node, ScalarNode):
        if not _is_harmless(node):
            shown = MASK if secret else scrub_value(key, node.value)
            if shown != node.value:
                yamlnodes.set_text(node, shown)
    elif isinstance(node, MappingNode):
        _hide_map(node, secret)
    elif isinstance(node, SequenceNode):
        _hide_items(node, secret, key)


def _is_harmless(node: ScalarNode) -> bool:
    if node.tag == yamlnodes.STR:
        return is_empty_or_handle(node.value)
    return node.tag == yamlnodes.NULL or (node.tag == yamlnodes.BOOL and node.value.lower() in ("true", "false"))


def _hide_map(node: MappingNode, secret: bool) -> None:
    """Hide the values of secret keys, and the value beside a name that is secret."""
    node.tag = yamlnodes.MAP if secret else node.tag
    named = any(_NAMES.fullmatch(key.value) and _names_secret(value) for key, value in node.value)
    for key, value in node.value:
        below = is_secret(key.value) and not (isinstance(value, ScalarNode) and is_key_file(key.value, value.value))
        hide(value, secret or below or (named and _VALUES.fullmatch(key.value) is not None), key.value)
        # No token is that short, and keys are half of the texts to search.
        if len(key.value) >= 10 or not _is_name(key.value):
            hide(key)


def _hide_items(node: SequenceNode, secret: bool, key: str) -> None:
    """Hide secrets in items, the argument after a flag like `--password`, and the value of a pair that names a secret."""
    node.tag = yamlnodes.SEQ if secret else node.tag
    line = None if secret else _hidden_as_a_line(node)
    after = False
    for number, item in enumerate(node.value):
        if line and not after:
            yamlnodes.set_text(item, line[number])
        hide(item, secret or after, key)
        after = _names_secret(item) and (
            (item.value.startswith("-") and "=" not in item.value)
            or (len(node.value) == 2 and bool(_is_name(item.value)))
        )


def _hidden_as_a_line(node: SequenceNode) -> list[str] | None:
    """The words of a command that is given as a list, without secrets; None when it is no command or has no secret."""
    words = [item.value for item in node.value if isinstance(item, ScalarNode)]
    if len(words) != len(node.value) or len(words) < 2 or not any(word.startswith("-") for word in words):
        return None
    if any(not word or word != "".join(word.split()) for word in words):
        return None
    shown = scrub(" ".join(words)).split(" ")
    return shown if len(shown) == len(words) and shown != words else None


def _names_secret(node: Node) -> bool:
    return isinstance(node, ScalarNode) and is_secret(node.value)
