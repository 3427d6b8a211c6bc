"""`clusteragent completion`: a shell completes commands and options."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from django.core.management import call_command

from clusteragent.command import VERBS

# As bash does on the second TAB: the words so far, and what it offers for the last of them.
OFFERS = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_clusteragent; printf "%s\\n" "${COMPREPLY[@]}"'


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    call_command("completion", "bash")
    file = tmp_path / "completion.bash"
    file.write_text(capsys.readouterr().out)
    return file


def offered(script: Path, *words: str) -> set[str]:
    done = subprocess.run(
        ["bash", "-c", OFFERS, script, "clusteragent", *words], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes_commands(script: Path) -> None:
    assert set(VERBS) <= offered(script, "")
    assert offered(script, "unp") == {"unpin"}


def test_bash_completes_a_command_s_own_options_and_choices(script: Path) -> None:
    assert {"--json", "--dry-run"} <= offered(script, "drain", "--")
    assert "--settings" not in offered(script, "drain", "--")
    assert offered(script, "completion", "z") == {"zsh"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_their_script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("completion", shell)
    (tmp_path / "script").write_text(capsys.readouterr().out)
    if not shutil.which(shell):
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{shell} is missing: apt-get install {shell}")
    subprocess.run([shell, "-n", tmp_path / "script"], check=True)
