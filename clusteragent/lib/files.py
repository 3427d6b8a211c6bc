"""Files that only their owner can read, and that appear complete or not at all."""

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class CredentialsError(Exception):
    """A file can't be made or used."""


# Bytes: more than any key, token or chain of certificates has.
MOST = 2**20


def read(path: Path) -> bytes:
    """Return what a file has, without waiting for it. Raises OSError also for what is no file, and for more than MOST bytes."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is not a file", str(path))
        data = file.read(MOST + 1)
    if len(data) > MOST:
        raise OSError(errno.EFBIG, f"has more than {MOST} bytes", str(path))
    return data


def make(path: Path, content: Callable[[], str]) -> str:
    """Return the file's content; if there is no file, make it with what `content` returns.

    Two starts at the same time use the same content: the new file is written beside it and then linked, and the link fails when
    another start was faster.
    """
    if not path.exists():
        with _draft(path, content()) as draft, suppress(FileExistsError):
            os.link(draft, path)
    return read(path).decode()


def replace(path: Path, content: str) -> None:
    """Write the file in the place of the one that is there."""
    with _draft(path, content) as draft:
        draft.replace(path)


@contextmanager
def _draft(path: Path, content: str) -> Iterator[Path]:
    """Write a file of mode 0600 beside another. So no reader of that sees half a file, not even after a power cut."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{content.rstrip()}\n")
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def restrict_access(*paths: Path, allowed: int = 0o700) -> None:
    """Remove all permissions but `allowed` from our own files and folders. Missing paths, links and others' files stay."""
    for path in paths:
        with suppress(FileNotFoundError):
            status = path.lstat()
            ours = status.st_uid == os.geteuid() and not stat.S_ISLNK(status.st_mode)
            if ours and stat.S_IMODE(status.st_mode) & ~allowed:
                path.chmod(stat.S_IMODE(status.st_mode) & allowed)
