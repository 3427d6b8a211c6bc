"""The reference says what the program knows of itself."""

from pathlib import Path

import pytest

from clusteragent.lib import conf
from clusteragent.lib.options import READ
from docs import generate


@pytest.mark.parametrize("file", sorted(generate.pages()), ids=lambda file: file.name)
def test_a_page_is_what_the_program_would_write_now(file: Path) -> None:
    assert file.read_text() == generate.pages()[file], "run `make reference`"


def test_each_option_is_described() -> None:
    described = list(generate.described(Path(conf.__file__).read_text()))
    names = {name for name in READ if name.startswith(("DD_", "CLUSTERAGENT_", "DATABASE_URL"))}
    assert {one.name for one in described} == names
    assert all(one.section and one.meaning.endswith(".") for one in described)


def test_a_default_is_shown_as_it_would_be_given() -> None:
    names = ("REBALANCE_SETTLING", "METRICS_PUBLIC", "BIND", "TRUSTED_PROXIES")
    assert [READ[f"CLUSTERAGENT_{name}"].default for name in names] == ["1m30s", "false", "127.0.0.1:5005", ""]
    assert READ["DD_LOG_LEVEL"].default == "info"
