"""A watch of the folders of configs: a saved file need not wait for the next periodic scan."""

import threading
from collections.abc import Sequence
from pathlib import Path

import structlog
import watchfiles

# Seconds after which folders that are missing or can't be watched are tried again.
LOOK_AGAIN = 1.0

log = structlog.get_logger()


class FolderWatch:
    """A thread that notes changes below folders. A folder may appear later, disappear, or be replaced."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=[self._present()], name="folder watch", daemon=True)
        self._thread.start()

    def take_change(self) -> bool:
        """Return whether anything has changed since the last call."""
        if not self._changed.is_set():
            return False
        self._changed.clear()
        return True

    def stop(self) -> None:
        """End the thread; wait for at most a second."""
        self._ended.set()
        self._thread.join(1)

    def _run(self, known: dict[Path, tuple[int, int]]) -> None:
        while not self._ended.is_set():
            try:
                self._watch(known)
            except (OSError, RuntimeError) as error:
                log.warning("folder_not_watched", error=str(error))
                self._ended.wait(LOOK_AGAIN)
            known = self._present()

    def _watch(self, known: dict[Path, tuple[int, int]]) -> None:
        """Note changes until a folder itself appears, disappears or is replaced."""
        while not known and not self._ended.wait(LOOK_AGAIN):
            if self._present():
                self._changed.set()
                return
        for changes in watchfiles.watch(
            *known, watch_filter=None, step=100, rust_timeout=int(LOOK_AGAIN * 1000), yield_on_timeout=True,
            stop_event=self._ended,
        ):  # fmt: skip
            others = self._present() != known
            if changes or others:
                self._changed.set()
            if others:
                return

    def _present(self) -> dict[Path, tuple[int, int]]:
        """Return {folder: (device, inode)} of those that exist; a folder that replaces another has another inode."""
        found = {}
        for folder in self._folders:
            try:
                entry = folder.stat()
            except OSError:
                continue
            found[folder] = (entry.st_dev, entry.st_ino)
        return found
