"""Texts that stand for others in a YAML tree, as the handle of a secret stands for the secret. Pure."""

import json
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks.wire import scalars

# Shorter values are found in other words, too, and whoever sees where they are replaced can read them.
_LEAST = 4


def texts(root: Node) -> Iterator[ScalarNode]:
    """Yield the texts among the values of a tree. Keys of maps are no values."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, MappingNode):
            waiting += [value for _, value in node.value]
        elif isinstance(node, SequenceNode):
            waiting += node.value
        elif isinstance(node, ScalarNode) and node.tag == scalars.STR:
            yield node


def replace(root: Node, others: Mapping[str, str]) -> bool:
    """Put other texts in place of those that are whole values, {text: other}. Return whether there was one."""
    found = [node for node in texts(root) if node.value in others] if others else []
    for node in found:
        node.value = others[node.value]
        node.style = scalars.style_of(node.value)
    return bool(found)


def put_back(told: str, secrets: Mapping[str, str]) -> str:
    """Return a text that others told with handles in place of what they stand for, {handle: value}, as in an error with a URL.

    Found are values as they are, without blanks at their ends, as parts of a URL, and as Python writes them; all also in JSON.
    """
    forms = {form: handle.strip() for handle, value in secrets.items() for form in _forms(value)}
    for form in sorted(forms, key=len, reverse=True):
        told = told.replace(form, forms[form])
    return told


def _forms(value: str) -> set[str]:
    """How a value may be written by others."""
    plain = {value, value.strip()}
    plain |= {quoted for one in plain for quoted in (quote(one, safe=""), quote(one), quote_plus(one))}
    plain |= {repr(one)[1:-1] for one in plain}
    written = {json.dumps(one, ensure_ascii=plainly)[1:-1] for one in plain for plainly in (False, True)}
    return {one for one in plain | written if len(one) >= _LEAST}
