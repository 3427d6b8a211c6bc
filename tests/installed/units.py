"""Units of systemd, read and run by the few of its rules that ours need: there is no systemd where tests run."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import psutil

# A user that nobody foresaw.
USER = 54321
# prctl(2): no memory may become executable, which is how MemoryDenyWriteExecute is kept.
_PR_SET_MDWE, _REFUSE_EXEC_GAIN = 65, 1


class Unit:
    """An instance of the template, as a process. root: a folder in place of `/`, in which its files are.

    is_own: as the user of the tests, where its programs are no files of others.
    """

    def __init__(self, role: str, root: Path, *, is_own: bool = False) -> None:
        self.role, self._root = role, root
        self._is_other = not is_own and _has_other_users()
        self._options = _options(root / "units", role)
        self._specifiers = {"%i": role, "%S": str(root / "var/lib"), "%d": str(root / "run/credentials" / role)}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def patience(self) -> float:
        """Seconds that the unit has to end."""
        return float(self.option("TimeoutStopSec"))

    def option(self, name: str) -> str:
        """Return the value of an option, of which the last one counts."""
        return self.all(name)[-1]

    def all(self, name: str) -> list[str]:
        """Return the values of an option that may be given several times, with the specifiers' values."""
        values = self._options[name]
        for specifier, value in self._specifiers.items():
            values = [text.replace(specifier, value) for text in values]
        return values

    def start(self) -> None:
        """Start the process as systemd would."""
        self._make_folders()
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [*self._restrictions(), *shlex.split(self.option("ExecStart"))],
                env=self._environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                umask=int(self.option("UMask"), 8),
            )

    def wait(self) -> int:
        """Wait until the process has ended by itself, and return its status."""
        assert self._process
        return self._process.wait(60)

    def stop(self) -> tuple[int, list[psutil.Process]]:
        """Stop it as systemd would, and return the status, and which processes it would have to kill. Raises TimeoutExpired."""
        assert self._process
        assert self.option("KillMode") == "mixed"
        others = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(self.patience)
        return status, psutil.wait_procs(others, timeout=1)[1]

    def end(self) -> None:
        """Kill what is left of it, whatever happened."""
        if self._process and self._process.poll() is None:
            for process in (*psutil.Process(self._process.pid).children(recursive=True), self._process):
                process.kill()
            self._process.wait()

    def log(self) -> str:
        """Return what it said."""
        return self._log.read_text()

    @property
    def _log(self) -> Path:
        return self._root / f"{self.role}.log"

    def _environment(self) -> dict[str, str]:
        lines = [line for text in self.all("Environment") for line in shlex.split(text)]
        for file in self.all("EnvironmentFile"):
            lines += shlex.split(Path(file).read_text(), comments=True)
        given = dict(line.partition("=")[::2] for line in lines)
        return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **given}

    def _make_folders(self) -> None:
        """Make the folder of the state and that of the credentials, which belong to the unit's user."""
        state, credentials = Path(self._specifiers["%S"], self.option("StateDirectory")), Path(self._specifiers["%d"])
        for folder in (state, credentials):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(int(self.option("StateDirectoryMode"), 8))
        for name, _, file in (text.partition(":") for text in self.all("LoadCredential")):
            (credentials / name).unlink(missing_ok=True)
            shutil.copy(file, credentials / name)
            (credentials / name).chmod(0o400)
        if self._is_other:
            for path in (state, credentials, *credentials.iterdir()):
                os.chown(path, USER, USER)

    def _restrictions(self) -> list[str]:
        assert self.option("NoNewPrivileges") == self.option("MemoryDenyWriteExecute") == "yes"
        assert self.option("CapabilityBoundingSet") == ""
        deny = f"ctypes.CDLL(None).prctl({_PR_SET_MDWE}, {_REFUSE_EXEC_GAIN}, 0, 0, 0)"
        python = [sys.executable, "-c", f"import ctypes, os, sys; {deny}; os.execv(sys.argv[1], sys.argv[1:])"]
        if os.geteuid():
            return python
        user = ["--reuid", str(USER), "--regid", str(USER), "--clear-groups"] if self._is_other else []
        return ["setpriv", *user, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--", *python]


def _options(folder: Path, role: str) -> dict[str, list[str]]:
    """Read the template and what is dropped in for the role."""
    dropped = (one for name in ("", role) for one in sorted((folder / f"clusteragent@{name}.service.d").glob("*.conf")))
    files = [folder / "clusteragent@.service", *dropped]
    options = defaultdict(list)
    for line in "\n".join(file.read_text() for file in files).splitlines():
        name, is_option, value = line.partition("=")
        if is_option and not line.startswith("#"):
            options[name].append(value)
    return options


def _has_other_users() -> bool:
    """Whether we may start a process as another user, and Python is where others reach it."""
    way = Path(sys.executable).resolve().parents
    return os.geteuid() == 0 and all(folder.stat().st_mode & 0o001 for folder in way)
