"""Rules in CEL that select objects by their fields. Pure.

The library takes 6 MB of memory and most processes need no rules, so it is loaded when the first rule is.
"""

import functools
from collections.abc import Callable
from typing import Any

# Fields that are maps of texts. The others are texts.
_MAPS = {"annotations", "labels"}

# Whether the fields of an object, in the order that was given, are selected.
Rule = Callable[..., bool]


class InvalidRule(ValueError):
    """The rule does not compile, or is neither true nor false. The message says where."""


def compile_rule(text: str, kind: str, fields: tuple[str, ...]) -> Rule:
    """Return the rule for objects of a kind, such as `kube_service`, with these fields. Raises InvalidRule.

    A rule that fails for an object, such as by an annotation that is not there or by taking too long, does not select it.
    """
    library, environment = _environment(kind, fields)
    try:
        rule = environment.compile(text)
    except RuntimeError as error:
        raise InvalidRule(_shown(error)) from None
    if rule.return_type() != library.Type.BOOL:
        raise InvalidRule("is neither true nor false")
    names = [f"{kind}.{field}" for field in fields]

    def selects(*values: object) -> bool:
        try:
            return rule.eval(data=dict(zip(names, values, strict=True))).value() is True
        except RuntimeError:
            # It ran through more items than the library allows.
            return False

    return selects


@functools.cache
def _environment(kind: str, fields: tuple[str, ...]) -> tuple[Any, Any]:
    from cel_expr_python import cel

    text = cel.Type.STRING
    types = {f"{kind}.{field}": cel.Type.Map(text, text) if field in _MAPS else text for field in fields}
    return cel, cel.NewEnv(variables=types)


def _shown(error: Exception) -> str:
    """The first line of the library's message, without its marks."""
    return str(error).partition("\n")[0].removeprefix("INVALID_ARGUMENT: ").replace("ERROR: <input>:", "at ").strip()
