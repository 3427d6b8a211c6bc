"""The version before this one, as git has it. Both run on the libraries of this environment."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.replicas import MANAGE

ROOT = MANAGE.parent
# The commit of the version before this one: with each release, that of the release before.
COMMIT = "8a74120bed82a61e9e18692c9a063100e09935dd"


def write(folder: Path) -> Path:
    """Write the older version into the folder, and return its `manage.py`. Skips the test where git does not have it."""
    packed = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        reason = f"the older version is missing: git fetch --unshallow ({packed.stderr.decode().strip()})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
    return folder / "manage.py"
