"""One test over a table: for what is said of many rows that need nothing of their own."""

import functools
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Test = Callable[..., None]


def table(names: str | Sequence[str], rows: Iterable[Any]) -> Callable[[Test], Test]:
    """Make a test try all rows, and fail with each that fails. Rows are as for `pytest.mark.parametrize`.

    Fixtures are made once, not for each row: where a row needs its own, parametrise.
    """
    columns = [names] if isinstance(names, str) else list(names)
    values = [dict(zip(columns, [row] if isinstance(names, str) else row, strict=True)) for row in rows]
    assert values, "a table without rows says nothing"

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def try_all(**fixtures: Any) -> None:
            failed = [(row, error) for row in values if (error := _error_of(test, {**fixtures, **row}))]
            if failed:
                told = "".join(f"\n{row}\n{_told(error)}" for row, error in failed)
                raise AssertionError(f"{len(failed)} of {len(values)} rows fail:{told}") from failed[0][1]

        signature = inspect.signature(test)
        fixtures = [parameter for name, parameter in signature.parameters.items() if name not in columns]
        try_all.__signature__ = signature.replace(parameters=fixtures)  # type: ignore[attr-defined]
        return try_all

    return decorate


def _told(error: Exception) -> str:
    return textwrap.indent(f"{type(error).__name__}: {error}", "    ")


def _error_of(test: Test, arguments: Mapping[str, Any]) -> Exception | None:
    try:
        test(**arguments)
    except Exception as error:  # noqa: BLE001
        return error
    return None
