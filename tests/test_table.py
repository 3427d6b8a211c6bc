"""A table of rows is one test that names all rows that fail."""

import pytest

from tests.table import table


def test_all_rows_that_fail_are_named_and_no_other() -> None:
    @table("number", [1, 2, 3, 4])
    def is_even(number: int) -> None:
        assert number % 2 == 0, f"{number} is odd"

    with pytest.raises(AssertionError) as failure:
        is_even()
    told = [line for line in str(failure.value).splitlines() if "assert " not in line]
    assert told == [
        "2 of 4 rows fail:",
        "{'number': 1}",
        "    AssertionError: 1 is odd",
        "{'number': 3}",
        "    AssertionError: 3 is odd",
    ]


def test_a_row_that_raises_stops_no_other() -> None:
    @table(("text", "number"), [("x", 0), ("2", 3)])
    def reads(text: str, number: int) -> None:
        assert int(text) == number

    with pytest.raises(AssertionError, match=r"(?s)^2 of 2 .*'x'.*ValueError.*'2'.*AssertionError"):
        reads()


@pytest.fixture
def ten() -> int:
    return 10


@table("factor", [1, 2])
@table("divisor", [2, 5, 10])
def test_rows_of_two_tables_are_combined_and_fixtures_are_given(ten: int, divisor: int, factor: int) -> None:
    assert ten * factor % divisor == 0


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(AssertionError, match="without rows"):
        table("number", [])
