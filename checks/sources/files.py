"""Configs in folders of files: `<check>.d/*.yaml`, `<check>.yaml`, and `*.yaml.default` where a check has no other file."""

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from checks.sources.fileformat import parse
from checks.sources.source import BrokenConfig, ConfigSource, Found, Problem, Read, Scan, Unsettled
from checks.wire.lint import lint
from checks.wire.scrub import scrub
from checks.wire.yamlnodes import MAX_BYTES, InvalidYAML
from clusteragent.lib import conf

# Seconds for which a file's size and times must stay the same before it is read.
SETTLED_AFTER = 1.0
# A file that is written for longer than so many seconds is no longer expected to settle: it may be a log.
ARRIVES_FOR = 10.0

_FILE_NAME = re.compile(r"(?P<stem>.+)\.ya?ml(?P<default>\.default)?", re.DOTALL).fullmatch
_KEY_OF_LINE = re.compile(r"\s*(?:- +)*[\w.-]{1,60}\s*:(?=\s|$)")
_METRICS = {"metrics.yaml", "metrics.yml"}


class Version(NamedTuple):
    """The status that changes with a file's content. The change time shows even an edit that resets the other fields."""

    path: str
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: str, status: os.stat_result) -> "Version":
        """Return the version of a file with this status."""
        return cls(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def age(self) -> float:
        """Return the seconds since the file changed, if the file server's clock is right."""
        return time.time() - max(self.modified_ns, self.changed_ns) / 1e9


class File(NamedTuple):
    """A config file, known by its name alone. key: its path relative to its folder."""

    key: str
    path: str
    check: str
    is_default: bool


class FileSource(ConfigSource):
    """The folders of CLUSTERAGENT_CONFD. Of files with the same relative path the one in the first folder counts."""

    name = "file"

    def __init__(self) -> None:
        super().__init__()
        self._paths: dict[str, str] = {}
        # Of each unsettled file: its version, since when it was seen, and when the file was first seen unsettled.
        self._looks: dict[str, tuple[Version, float, float]] = {}

    def scan(self) -> Scan:
        """Return the config files by their names and status. Their contents are read later."""
        scan = Scan()
        files = self._files(scan)
        overridden = {file.check for file in files if not file.is_default and _name(file.key) not in _METRICS}
        for file in files:
            if not file.is_default:
                self._look(file, scan)
            elif scan.kept_under:
                # A folder that can't be read may contain the check's other file.
                scan.kept.add(file.key)
            elif file.check not in overridden:
                self._look(file, scan)
        return scan

    def _files(self, scan: Scan) -> list[File]:
        """The file that counts under each key."""
        files: dict[str, File] = {}
        unread: list[str] = []
        for folder in conf.CONFD:
            for file in _listing(folder, scan, unread):
                if self._paths.get(file.key, file.path).startswith(tuple(unread)) and file.key not in files:
                    # The file of this key was in an earlier folder that can't be read now, so this one does not replace it.
                    scan.kept.add(file.key)
                else:
                    files.setdefault(file.key, file)
        kept = {key: path for key, path in self._paths.items() if scan.keeps(key)}
        self._paths = kept | {file.key: file.path for file in files.values()}
        self._looks = {key: look for key, look in self._looks.items() if key in files}
        return list(files.values())

    def _look(self, file: File, scan: Scan) -> None:
        """Add the file to the scan by its status. Its content is read later."""
        try:
            # Not a Path: making one for each of very many files takes longer than stat().
            status = os.stat(file.path)  # noqa: PTH116
        except FileNotFoundError:
            if Path(file.path).is_symlink():
                _problem(scan, file, "points to nothing")
            return
        except OSError as error:
            _problem(scan, file, _reason(error))
            return
        if stat.S_ISREG(status.st_mode):
            self._settle(file, Version.of(file.path, status), scan)
        elif not stat.S_ISDIR(status.st_mode):
            _problem(scan, file, "is not a regular file")

    def _settle(self, file: File, version: Version, scan: Scan) -> None:
        """Add the file as found if its version is known, or if nothing was written to it for a second; else as unsettled.

        The second is known from the file's times, or from two scans a second apart, since a file server's clock may be ahead
        of ours. A change between two scans restarts it, whatever the clocks say.
        """
        known, now = self.memory.get(file.key), time.monotonic()
        seen, since, arrived = self._looks.pop(file.key, (version, now, now))
        stood_still = seen == version and max(version.age(), now - since) >= SETTLED_AFTER
        if stood_still or (known is not None and known.version == version):
            scan.found.append(Found(file.key, version, partial(_read, file, version)))
            return
        self._looks[file.key] = version, since if seen == version else now, arrived
        scan.unsettled.add(file.key)
        scan.kept.add(file.key)
        if now - arrived < ARRIVES_FOR:
            scan.arriving.add(file.key)


def locate(key: str, line: int | None) -> tuple[str, str]:
    """Return which folder of this machine has the file of this key, and how the line begins; both empty if it is not here.

    Of the line that is its key, never its value, which may be a secret.
    """
    if Path(key).is_absolute() or ".." in Path(key).parts:
        return "", ""
    for folder in conf.CONFD:
        with suppress(OSError):
            # Not a pipe, which would block.
            if (folder / key).is_file():
                return f"{folder}/", _beginning(folder / key, line) if line else ""
    return "", ""


def _beginning(path: Path, line: int) -> str:
    with path.open("rb") as stream:
        lines = stream.read(MAX_BYTES).decode("utf-8-sig", errors="replace").split("\n")
    match = _KEY_OF_LINE.match(lines[line - 1]) if line <= len(lines) else None
    return f"{scrub(match[0].strip())} …" if match else ""


def _listing(folder: Path, scan: Scan, unread: list[str]) -> Iterator[File]:
    """The config files of a folder, by name. Folders that can't be read are added to `unread`."""
    for name in _names(folder, scan, unread, ""):
        if name.endswith(".d"):
            for inner in _names(folder / name, scan, unread, f"{name}/"):
                yield from _file(folder, f"{name}/{inner}", scan, check=name.removesuffix(".d"))
        elif name not in _METRICS:
            yield from _file(folder, name, scan)


def _names(folder: Path, scan: Scan, unread: list[str], prefix: str) -> list[str]:
    """The sorted names in a folder, without those that begin with a dot (a mounted ConfigMap's own folders).

    prefix: the beginning of its files' keys; "" for a folder of CLUSTERAGENT_CONFD.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        # A dangling symbolic link may be a mount that comes back, so it counts as a folder.
        is_gone = isinstance(error, FileNotFoundError) and not folder.is_symlink()
        if prefix and (is_gone or isinstance(error, NotADirectoryError)):
            return []
        problem = Problem(_shown(prefix or str(folder)), None, f"{_reason(error)}; its configs stay as they are")
        by_default = not prefix and not conf.CONFD_GIVEN and isinstance(error, FileNotFoundError)
    (scan.missing if by_default else scan.problems).append(problem)
    scan.readable &= bool(prefix) or by_default
    scan.kept_under.add(prefix)
    unread.append(f"{folder}/")
    return []


def _file(folder: Path, key: str, scan: Scan, check: str = "") -> Iterator[File]:
    match = _FILE_NAME(_name(key))
    if not match:
        return
    if _shown(key) != key:
        scan.problems.append(Problem(_shown(key), None, "the name is not UTF-8"))
        return
    yield File(key, f"{folder}/{key}", check or match["stem"], bool(match["default"]))


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _problem(scan: Scan, file: File, error: str) -> None:
    scan.problems.append(Problem(file.key, None, error))
    scan.kept.add(file.key)


def _reason(error: OSError) -> str:
    return error.strerror or "can't be read"


def _shown(name: str) -> str:
    """The name with undecodable bytes as escapes, since PostgreSQL and JSON can't hold them."""
    return name.encode(errors="backslashreplace").decode()


def _read(file: File, version: Version) -> Read:
    """Read the file's config. Raises BrokenConfig, or Unsettled when the file has changed since that version."""
    if version.size > MAX_BYTES:
        raise BrokenConfig(f"has {version.size} bytes, allowed are {MAX_BYTES}")
    try:
        # Without O_NONBLOCK, opening a pipe that has replaced the file would block for ever.
        with os.fdopen(os.open(version.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            before = os.fstat(stream.fileno())
            data = stream.read(MAX_BYTES + 1) if stat.S_ISREG(before.st_mode) else b""
            after = os.fstat(stream.fileno())
    except OSError as error:
        raise BrokenConfig(_reason(error), lasting=False) from error
    if not version == Version.of(version.path, before) == Version.of(version.path, after):
        raise Unsettled
    try:
        text = data.decode("utf-8-sig")
        # Not the whole path: replicas with other folder names must send the same bytes.
        config = parse(text, name=file.check, source=f"file:{file.key}", is_file=True)
        return Read(config, lint(text, file.check), text)
    except UnicodeDecodeError as error:
        raise BrokenConfig("is not UTF-8", data.count(b"\n", 0, error.start) + 1) from error
    except InvalidYAML as error:
        raise BrokenConfig(error.problem, error.line) from error
