"""Where unix sockets lie: a socket's path has at most 107 bytes, and a checkout may lie deeper."""

import errno
import hashlib
import os
import tempfile
from pathlib import Path

# The longest name that is put into such a folder: supervisord binds beside its socket's name first.
_LONGEST_FOLDER = 107 - len("/supervisor.sock.1234567")


def folder_of(folder: Path) -> Path:
    """The folder itself, or a short one that stands for it when its path is too long."""
    if len(os.fsencode(folder)) <= _LONGEST_FOLDER:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"clusteragent-{digest}"


def make_folder_of(folder: Path, owner: int) -> Path:
    """The folder of `folder`'s sockets, made if missing, for `owner` alone. Raises PermissionError if it is another's.

    Everyone may write to the system's folder for temporary files, so whoever made it first could be anyone.
    """
    sockets = folder_of(folder)
    if not sockets.exists():
        sockets.mkdir(mode=0o700)
        os.chown(sockets, owner, -1)
    if sockets.lstat().st_uid != owner:
        raise PermissionError(errno.EPERM, "belongs to another user", str(sockets))
    return sockets
