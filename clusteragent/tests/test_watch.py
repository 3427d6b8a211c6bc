"""Changes in folders of configs are noticed, also when folders appear and disappear."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusteragent import watch
from clusteragent.watch import FolderWatch


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FolderWatch]]:
    monkeypatch.setattr(watch, "LOOK_AGAIN", 0.1)
    started: list[FolderWatch] = []

    def start(*folders: Path) -> FolderWatch:
        started.append(FolderWatch(folders))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def noticed(folders: FolderWatch, touch: Callable[[], object], patience: float = 10) -> bool:
    """Touch the file until the change is noticed: a watch that has just begun may miss the first change."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        touch()
        time.sleep(0.05)
        if folders.take_change():
            return True
    return False


def test_a_file_that_is_written_is_noticed_once(tmp_path: Path, watching: Callable[..., FolderWatch]) -> None:
    folders = watching(tmp_path)
    assert noticed(folders, lambda: (tmp_path / "a.yaml").write_text("x"))
    wait_until_quiet(folders)
    assert not folders.take_change()


def test_a_file_in_a_folder_below_is_noticed(tmp_path: Path, watching: Callable[..., FolderWatch]) -> None:
    (tmp_path / "http_check.d").mkdir()
    folders = watching(tmp_path)
    assert noticed(folders, lambda: (tmp_path / "http_check.d" / "conf.yaml").write_text("x"))


def test_a_folder_that_comes_later_is_noticed_and_then_watched(
    tmp_path: Path, watching: Callable[..., FolderWatch]
) -> None:
    late = tmp_path / "late"
    folders = watching(late)
    assert not folders.take_change()
    late.mkdir()
    assert noticed(folders, lambda: None), "its coming is a change"
    wait_until_quiet(folders)
    assert noticed(folders, lambda: (late / "a.yaml").write_text("x"))


def test_a_folder_that_was_replaced_is_watched_again(tmp_path: Path, watching: Callable[..., FolderWatch]) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    folders = watching(folder)
    assert noticed(folders, lambda: (folder / "a.yaml").write_text("x"))
    folder.rename(tmp_path / "old")
    folder.mkdir()
    assert noticed(folders, lambda: None)
    wait_until_quiet(folders)
    assert noticed(folders, lambda: (folder / "b.yaml").write_text("x"))


def test_a_mounted_config_map_that_is_swapped_is_noticed(tmp_path: Path, watching: Callable[..., FolderWatch]) -> None:
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
    (tmp_path / "..data").symlink_to("..1")
    folders = watching(tmp_path)
    swaps = iter(range(1000))

    def swap() -> None:
        (tmp_path / "..new").symlink_to(f"..{1 + next(swaps) % 2}")
        (tmp_path / "..new").rename(tmp_path / "..data")

    assert noticed(folders, swap)


def test_one_missing_folder_does_not_hide_another(tmp_path: Path, watching: Callable[..., FolderWatch]) -> None:
    folders = watching(tmp_path / "missing", tmp_path)
    assert noticed(folders, lambda: (tmp_path / "a.yaml").write_text("x"))


def test_the_watch_ends_with_the_term(tmp_path: Path, watching: Callable[..., FolderWatch]) -> None:
    folders = watching(tmp_path)
    folders.stop()
    assert not folders._thread.is_alive()


def wait_until_quiet(folders: FolderWatch) -> None:
    """Wait until all events of earlier changes have arrived."""
    quiet_since = time.monotonic()
    deadline = quiet_since + 10
    while time.monotonic() < min(quiet_since + 0.5, deadline):
        if folders.take_change():
            quiet_since = time.monotonic()
        time.sleep(0.02)
