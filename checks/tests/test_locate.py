"""Where a broken file lies, and how its line begins, without what may be a secret."""

from pathlib import Path

import pytest

from checks.models import Source
from checks.sources.files import locate
from checks.tests.operators import superuser
from clusteragent.lib import conf

TEXT = "cluster_check: true\ninstances:\n  - host: a\n    password: hunter2\n      nested: x\n  hunter3\n"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two folders of configs; the second has the file."""
    found = [tmp_path / "first", tmp_path / "second"]
    for folder in found:
        (folder / "nginx.d").mkdir(parents=True)
    (found[1] / "nginx.d/list.yaml").write_text(TEXT)
    monkeypatch.setattr(conf, "CONFD", tuple(found))
    return found


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (None, ""),
        (1, "cluster_check: …"),
        (3, "- host: …"),
        (4, "password: …"),
        (5, "nested: …"),
        # A line without a key may be a part of a secret.
        (6, ""),
        (70, ""),
    ],
)
def test_the_folder_and_the_key_of_the_line(folders: list[Path], line: int | None, text: str) -> None:
    assert locate("nginx.d/list.yaml", line) == (f"{folders[1]}/", text)


@pytest.mark.parametrize("key", ["nginx.d/none.yaml", "nginx.d", "../second/nginx.d/list.yaml"])
def test_what_is_no_file_of_these_folders(folders: list[Path], key: str) -> None:
    assert locate(key, 1) == ("", "")
    assert locate(str(folders[1] / "nginx.d/list.yaml"), 1) == ("", "")


@pytest.mark.django_db
def test_the_page_of_the_source_says_both(folders: list[Path]) -> None:
    errors = [{"where": "nginx.d/list.yaml", "line": 5, "error": "bad indentation"}]
    Source.objects.update_or_create(name="file", defaults={"errors": errors})
    text = superuser().get(f"/admin/checks/source/{Source.objects.get(name='file').pk}/change/").content.decode()
    assert f"{folders[1]}/" in text
    assert "nested: …" in text
    assert "hunter2" not in text
