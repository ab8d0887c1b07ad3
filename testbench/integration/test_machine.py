"""What a user sees on a machine that lacks something, and at first sight."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Without what a `make` around this test says to its children.
ENVIRONMENT = {"PATH": os.environ["PATH"]}


def check(path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/check_machine.py"],
        cwd=ROOT,
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_names_missing_packages(tmp_path):
    answer = check(str(tmp_path))
    assert answer.returncode == 1
    assert answer.stderr == "This machine lacks g++ and make: apt install g++ make\n"


def test_is_silent_when_nothing_is_missing(tmp_path):
    for name in ("g++", "make"):
        tool = tmp_path / name
        tool.touch(mode=0o755)
    answer = check(str(tmp_path))
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


PYTHON_WITHOUT_PYPI = """\
#!/bin/sh
[ "$1" = -m ] || exit 0
mkdir -p .venv/bin
printf '#!/bin/sh\\nexit 1\\n' > .venv/bin/pip
chmod +x .venv/bin/pip
"""


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("none", "This machine lacks none: apt install python3 python3-venv"),
        (
            "./python",
            (
                "The packages could not be installed: PyPI must be reachable, and ca-certificates"
                " installed"
            ),
        ),
    ],
)
def test_make_says_what_is_missing(tmp_path, python, message):
    """The last line but that of make itself; the next call tries again."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "python").write_text(PYTHON_WITHOUT_PYPI)
    (tmp_path / "python").chmod(0o755)
    for _ in range(2):
        answer = subprocess.run(
            ["make", "setup", f"PYTHON={python}"],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode
        assert answer.stderr.splitlines()[-2] == message


def test_make_lists_its_targets():
    answer = subprocess.run(
        ["make"], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    targets = [line.split()[0] for line in answer.stdout.splitlines()]
    assert targets == ["help", "setup", "demo", "test", "lint", "bench", "bench-generate", "clean"]
