"""The programs of Kubernetes that tests start. Run as a program, the module builds them into a cache outside of the tree.

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

MODULE = Path(__file__).parent / "apiserver"
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
# Without a C compiler, and with what the module's files say, whatever this machine's settings are.
_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false -trimpath", "GOWORK": "off"}
# Two compilers at once, and after whatever else this machine does. More would take more than 3 GB of memory.
_BUILD = ("nice", "go", "build", "-p", "2", "-ldflags", "-s -w")
COMMAND = "make kube-apiserver"


def folder() -> Path:
    """Return where the programs lie once they are built: another folder for each state of the module and each platform."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "clusteragent" / "kubernetes" / _fingerprint()


def are_there() -> bool:
    """Return whether the programs are built."""
    return folder().is_dir()


def build() -> Path:
    """Build the programs if they are not there; return their folder.

    A second build waits for the first one. The folder appears complete or not at all, so an interrupted build does no harm.
    Raises CalledProcessError when Go does not build them, FileNotFoundError without Go.
    """
    target = folder()
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not are_there():
            _build_into(target)
    return target


def _build_into(target: Path) -> None:
    for rest in target.parent.glob(".building-*"):
        shutil.rmtree(rest)
    made = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
    for name, package in PACKAGES.items():
        began = time.monotonic()
        subprocess.run(
            [*_BUILD, "-o", str(made / name), package], cwd=MODULE, env={**os.environ, **_ENVIRONMENT}, check=True
        )
        _tell(f"{name}: {(made / name).stat().st_size >> 20} MB in {time.monotonic() - began:.0f} s")
    made.chmod(0o755)
    made.rename(target)


def _fingerprint() -> str:
    files = [(MODULE / name).read_bytes() for name in ("go.mod", "go.sum")]
    how = repr((PACKAGES, _ENVIRONMENT, _BUILD, platform.system(), platform.machine()))
    return hashlib.sha256(b"\0".join([*files, how.encode()])).hexdigest()[:16]


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    if not shutil.which("go"):
        sys.exit("Go is missing, which builds kube-apiserver, etcd and kubectl: https://go.dev/doc/install")
    if not are_there():
        _tell("Building kube-apiserver, etcd and kubectl for the tests of Kubernetes: some ten minutes, once")
    try:
        _tell(f"In {build()}")
    except subprocess.CalledProcessError:
        sys.exit("Go can't build them: its message is above")
