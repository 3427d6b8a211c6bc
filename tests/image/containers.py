"""The image as it is built for users, and containers of it that share this machine's network."""

import json
import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clusteragent.lib import postgres

PROJECT = Path(__file__).parents[2]
PROGRAMS = {"mmdebstrap": "mmdebstrap", "buildah": "buildah", "podman": "podman", "runc": "runc"}
# Any user but root may run it, as in clusters that choose users by themselves. Its group is 0, as there.
USER = "54321:0"
# What a strict cluster demands of a container.
_STRICT = ("--read-only", "--user", USER, "--cap-drop", "all", "--security-opt", "no-new-privileges")
# More than this may not be asked for within some sandboxes.
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4000:4000")
# This machine's authorities: a proxy between it and the packages may have a certificate of its own.
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


def missing() -> str:
    """Return the command that installs the programs that are not there; empty when all are."""
    absent = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    return f"apt-get install --no-install-recommends {' '.join(absent)}" if absent else ""


class EngineError(Exception):
    """A program of the engine failed, in its words."""


class Engine:
    """Builds the image and runs it, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = (
            "--root",
            str(folder / "images"),
            "--runroot",
            str(folder / "run"),
            "--storage-driver",
            "overlay",
        )
        self._started: list[Container] = []

    def build(self, name: str) -> None:
        """Build the image by deploy/image/Containerfile, upon a Debian that is made here instead of pulled."""
        base = self._folder / "debian.tar"
        _run("mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "bookworm", str(base))
        self.podman("import", "--quiet", str(base), "debian")
        base.unlink()
        self._build(PROJECT, PROJECT / "deploy/image/Containerfile", name)

    def build_stand_ins(self, *names: str) -> None:
        """Build the image that has what images of PostgreSQL and HAProxy have, after `build`."""
        source, wheel = Path(__file__).parent / "stand_ins", postgres.programs().parents[1]
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
            for part in (wheel, wheel.with_suffix(".libs")):
                shutil.copytree(part, Path(folder) / "postgresql" / part.name)
            self._build(Path(folder), source / "Containerfile", *names)

    def environment(self) -> dict[str, str]:
        """Return the variables by which podman, whoever calls it, uses this engine."""
        storage, containers = self._folder / "storage.conf", self._folder / "containers.conf"
        storage.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self._folder}/images"\nrunroot = "{self._folder}/run"\n'
        )
        containers.write_text(
            '[engine]\ncgroup_manager = "cgroupfs"\nruntime = "runc"\n[network]\nnetwork_backend = "netavark"\n'
            f"[containers]\ndefault_ulimits = {json.dumps(_LIMITS[1::2])}\n"
        )
        return {"CONTAINERS_STORAGE_CONF": str(storage), "CONTAINERS_CONF": str(containers)}

    def podman(self, *words: str, both: bool = False) -> str:
        """Run podman; return what it prints, with `both` on both outputs. Raises EngineError."""
        return _run("podman", *self._store, "--cgroup-manager", "cgroupfs", "--runtime", "runc", *words, both=both)

    def inspect(self, image: str) -> Mapping[str, Any]:
        """Return what is said of an image."""
        return json.loads(self.podman("image", "inspect", image))[0]  # type: ignore[no-any-return]

    def save(self, image: str, into: Path) -> None:
        """Write the files of an image's root into a folder."""
        name = self.podman("create", image).strip()
        archive = self._folder / "root.tar"
        self.podman("export", "--output", str(archive), name)
        self.podman("rm", name)
        with tarfile.open(archive) as files:
            files.extractall(into, filter="fully_trusted")
        archive.unlink()

    def run(self, image: str, *words: str, env: Mapping[str, str], options: Sequence[str] = ()) -> "Container":
        """Start a container, as a strict cluster would."""
        return self.start("--network", "host", *_STRICT, *options, image, *words, env=env)

    def start(self, *words: str, env: Mapping[str, str]) -> "Container":
        """Start a container with these words of `podman run`."""
        variables = [word for name, value in env.items() for word in ("--env", f"{name}={value}")]
        container = Container(self, self.podman("run", "--detach", *_LIMITS, *variables, *words).strip())
        self._started.append(container)
        return container

    def end(self) -> None:
        """Remove all containers that were started."""
        while self._started:
            self.podman("rm", "--force", "--time", "0", self._started.pop().id)

    def _build(self, context: Path, file: Path, *names: str) -> None:
        _run(
            *("buildah", *self._store, "build", "--quiet", "--format", "docker", "--isolation", "chroot"),
            *(
                "--network",
                "host",
                "--volume",
                "/etc/apt:/etc/apt:ro",
                "--volume",
                f"{_AUTHORITIES}:/authorities.crt:ro",
            ),
            *("--build-arg", "PIP_CERT=/authorities.crt", "--build-arg", "DEBIAN=localhost/debian"),
            *("--file", str(file), *(word for name in names for word in ("--tag", name)), str(context)),
        )


class Container:
    """A container that was started."""

    def __init__(self, engine: Engine, id_: str) -> None:
        self._engine, self.id = engine, id_

    def log(self) -> str:
        """Return all that it has printed."""
        return self._engine.podman("logs", self.id, both=True)

    def call(self, *words: str) -> str:
        """Run a command in it; return what that prints. Raises EngineError."""
        return self._engine.podman("exec", self.id, *words)

    def is_healthy(self) -> bool:
        """Run the check of its health once."""
        try:
            self._engine.podman("healthcheck", "run", self.id)
        except EngineError:
            return False
        return True

    def wait(self) -> int:
        """Wait until it ends; return its status."""
        return int(self._engine.podman("wait", self.id))

    def stop(self, seconds: int) -> int:
        """Let it end, as a cluster does; return its status: 137 if it had to be killed after these seconds."""
        self._engine.podman("stop", "--time", str(seconds), self.id)
        return self.wait()

    @property
    def pid(self) -> int:
        """The process ID of its first process, as this machine sees it."""
        return int(self._engine.podman("inspect", "--format", "{{.State.Pid}}", self.id))


def _run(*words: str, both: bool = False) -> str:
    env = {**os.environ, "TMPDIR": "/var/tmp"}
    errors = subprocess.STDOUT if both else subprocess.PIPE
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=errors, text=True, env=env, check=False)
    if done.returncode:
        raise EngineError(f"{shlex.join(words)}: {(done.stderr or done.stdout)[-3000:]}")
    return done.stdout
