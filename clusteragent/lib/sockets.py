"""Folders of unix sockets: a socket's path has at most 107 bytes, and the program's folder may have a longer path."""

import errno
import hashlib
import os
import tempfile
from pathlib import Path

# The rest is for the longest name in such a folder: supervisord first binds a temporary name beside its socket's.
_LONGEST_FOLDER = 107 - len("/supervisor.sock.1234567")


def folder_of(folder: Path) -> Path:
    """Return the folder itself, or a folder with a short path in its place when the path is too long for sockets."""
    if len(os.fsencode(folder)) <= _LONGEST_FOLDER:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"clusteragent-{digest}"


def make_folder_of(folder: Path, owner: int) -> Path:
    """Return the folder of `folder`'s sockets; make it if missing, for the user ID `owner` alone. Raises PermissionError if
    it belongs to another user.

    It may be in the system's folder for temporary files, where every user could have made it first.
    """
    sockets = folder_of(folder)
    if not sockets.exists():
        sockets.mkdir(mode=0o700)
        os.chown(sockets, owner, -1)
    if sockets.lstat().st_uid != owner:
        raise PermissionError(errno.EPERM, "belongs to another user", str(sockets))
    return sockets
