"""Programs in Go that tests start, and those of Kubernetes. Run as a program, the module builds the latter, into a cache outside
of the tree.

It needs Go and Python's standard library, and takes some ten minutes once.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

# Without a C compiler, and with what the module's files say, whatever this machine's settings are.
_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false -trimpath", "GOWORK": "off"}
# Two compilers at once, and after whatever else this machine does. More would take more than 3 GB of memory.
_BUILD = ("nice", "go", "build", "-p", "2", "-ldflags", "-s -w")


class Programs(NamedTuple):
    """Programs that are built from one Go module. name: of their folder in the cache; command: builds them."""

    name: str
    module: Path
    packages: dict[str, str]
    command: str

    def folder(self) -> Path:
        """Return where they lie once they are built: another folder for each state of the module and each platform."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "clusteragent" / self.name / self._fingerprint()

    def are_there(self) -> bool:
        """Return whether they are built."""
        return self.folder().is_dir()

    def build(self) -> Path:
        """Build them if they are not there; return their folder.

        A second build waits for the first one. The folder appears complete or not at all, so an interrupted build does no
        harm. Raises CalledProcessError when Go does not build them, FileNotFoundError without Go.
        """
        target = self.folder()
        target.parent.mkdir(parents=True, exist_ok=True)
        with (target.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.are_there():
                self._build_into(target)
        return target

    def make(self) -> None:
        """Build them if they are not there, and say so. Raises SystemExit, which says what is missing."""
        names = ", ".join(self.packages)
        if not shutil.which("go"):
            sys.exit(f"Go is missing, which builds {names}: https://go.dev/doc/install")
        if not self.are_there():
            _tell(f"Building {names} for tests: some minutes, once")
        try:
            _tell(f"In {self.build()}")
        except subprocess.CalledProcessError:
            sys.exit("Go can't build them: its message is above")

    def _build_into(self, target: Path) -> None:
        for rest in target.parent.glob(".building-*"):
            shutil.rmtree(rest)
        made = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
        for name, package in self.packages.items():
            began = time.monotonic()
            command = [*_BUILD, "-o", str(made / name), package]
            subprocess.run(command, cwd=self.module, env={**os.environ, **_ENVIRONMENT}, check=True)
            _tell(f"{name}: {(made / name).stat().st_size >> 20} MB in {time.monotonic() - began:.0f} s")
        made.chmod(0o755)
        made.rename(target)

    def _fingerprint(self) -> str:
        files = [(self.module / name).read_bytes() for name in ("go.mod", "go.sum")]
        how = repr((self.packages, _ENVIRONMENT, _BUILD, platform.system(), platform.machine()))
        return hashlib.sha256(b"\0".join([*files, how.encode()])).hexdigest()[:16]


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


KUBERNETES = Programs(
    "kubernetes",
    Path(__file__).parent / "apiserver",
    {
        "etcd": "go.etcd.io/etcd/server/v3",
        "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
        "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    },
    "make kube-apiserver",
)

if __name__ == "__main__":
    KUBERNETES.make()
