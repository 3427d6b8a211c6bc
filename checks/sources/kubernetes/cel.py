"""Rules in CEL that select Services or endpoints by their names and annotations. Pure.

The library is large and only the process that watches Kubernetes needs it, so it is loaded when the first rule is.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

LIBRARY = "cel-expr-python"
_FIELDS = ("name", "namespace", "annotations")

# What a rule may be asked: name, namespace and annotations of an object.
Rule = Callable[[str, str, Mapping[str, str]], bool]


class InvalidRule(ValueError):
    """The rule does not compile, or is neither true nor false. The message says where."""


class NoLibrary(Exception):
    """The library for CEL is not installed."""


def compile_rule(text: str, kind: str) -> Rule:
    """Return the rule for objects of a kind, such as `kube_service`. Raises InvalidRule or NoLibrary.

    A rule that fails for an object, such as by an annotation that is not there, does not select it.
    """
    library, environment = _environment(kind)
    try:
        rule = environment.compile(text)
    except RuntimeError as error:
        raise InvalidRule(_shown(error)) from None
    if rule.return_type() != library.Type.BOOL:
        raise InvalidRule("is neither true nor false")
    names = [f"{kind}.{field}" for field in _FIELDS]
    return lambda *values: rule.eval(data=dict(zip(names, values, strict=True))).value() is True


@functools.cache
def _environment(kind: str) -> tuple[Any, Any]:
    try:
        from cel_expr_python import cel
    except ImportError:
        raise NoLibrary from None
    text = cel.Type.STRING
    types = dict(zip(_FIELDS, (text, text, cel.Type.Map(text, text)), strict=True))
    return cel, cel.NewEnv(variables={f"{kind}.{field}": each for field, each in types.items()})


def _shown(error: Exception) -> str:
    """The first line of the library's message, without its marks."""
    return str(error).partition("\n")[0].removeprefix("INVALID_ARGUMENT: ").replace("ERROR: <input>:", "at ").strip()
