"""Hides secrets in the YAML of what people read. What a secret is, in keys and in texts, is clusteragent.lib.scrub's matter."""

from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks import yamlnodes
from clusteragent.lib.scrub import HANDLE, MASK, is_secret, may_hold_secrets, scrub

__all__ = ["MASK", "hide", "is_secret", "may_hold_secrets", "scrub"]


def hide(node: Node, secret: bool = False) -> None:
    """Hide the secrets of a tree in place; all of it when it is secret itself."""
    if isinstance(node, ScalarNode):
        _hide_scalar(node, secret)
    elif isinstance(node, MappingNode):
        _hide_map(node, secret)
    elif isinstance(node, SequenceNode):
        _hide_items(node, secret)


def _hide_scalar(node: ScalarNode, secret: bool) -> None:
    shown = MASK if secret and not _tells_nothing(node) else scrub(node.value)
    if shown != node.value:
        yamlnodes.set_text(node, shown)


def _tells_nothing(node: ScalarNode) -> bool:
    if node.tag == yamlnodes.STR:
        return not node.value or HANDLE.fullmatch(node.value) is not None
    return node.tag == yamlnodes.NULL or (node.tag == yamlnodes.BOOL and node.value.lower() in ("true", "false"))


def _hide_map(node: MappingNode, secret: bool) -> None:
    """What stands under a secret key, or under `value` beside the secret's name."""
    node.tag = yamlnodes.MAP if secret else node.tag
    named = any(key.value in ("name", "key", "header") and _names_secret(value) for key, value in node.value)
    for key, value in node.value:
        hide(value, secret or is_secret(key.value) or (named and key.value == "value"))
        hide(key)


def _hide_items(node: SequenceNode, secret: bool) -> None:
    """A list's items, and the argument that follows a flag like `--password`."""
    node.tag = yamlnodes.SEQ if secret else node.tag
    after_flag = False
    for item in node.value:
        names_secret = _names_secret(item) and item.value.startswith("-") and "=" not in item.value
        hide(item, secret or after_flag)
        after_flag = names_secret


def _names_secret(node: Node) -> bool:
    return isinstance(node, ScalarNode) and is_secret(node.value)
