"""One test over a table of rows, for many rows that need no fixtures of their own."""

import functools
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Test = Callable[..., None]


def table(names: str | Sequence[str], rows: Iterable[Any]) -> Callable[[Test], Test]:
    """Decorate a test to run for all rows, and to fail with a list of those that fail. Arguments as for `parametrize`.

    Fixtures are made once, not for each row. Where each row needs its own, use `pytest.mark.parametrize`.
    """
    columns = [names] if isinstance(names, str) else list(names)
    values = [dict(zip(columns, [row] if isinstance(names, str) else row, strict=True)) for row in rows]
    assert values, "a table without rows says nothing"

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def try_all(**fixtures: Any) -> None:
            failed = [(row, error) for row in values if (error := _error_of(test, {**fixtures, **row}))]
            if failed:
                text = "".join(f"\n{row}\n{_described(error)}" for row, error in failed)
                raise AssertionError(f"{len(failed)} of {len(values)} rows fail:{text}") from failed[0][1]

        signature = inspect.signature(test)
        fixtures = [parameter for name, parameter in signature.parameters.items() if name not in columns]
        try_all.__signature__ = signature.replace(parameters=fixtures)  # type: ignore[attr-defined]
        return try_all

    return decorate


def _described(error: Exception) -> str:
    return textwrap.indent(f"{type(error).__name__}: {error}", "    ")


def _error_of(test: Test, arguments: Mapping[str, Any]) -> Exception | None:
    try:
        test(**arguments)
    except Exception as error:  # noqa: BLE001
        return error
    return None
