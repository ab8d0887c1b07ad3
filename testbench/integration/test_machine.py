"""What a user sees on a machine that lacks something, and at first sight."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


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
