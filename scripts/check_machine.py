"""Say in one sentence which packages are missing on this machine, if any."""

import ctypes
import importlib.util
import shutil
import sys
import sysconfig
from pathlib import Path


def has_libpython() -> bool:
    """Say whether a simulator can load this Python as a library."""
    version = sysconfig.get_python_version()
    names = {str(sysconfig.get_config_var("INSTSONAME")), f"libpython{version}.so.1.0"}
    names = {name for name in names if ".so" in name}
    folder = Path(str(sysconfig.get_config_var("LIBDIR")))
    for name in names:
        for candidate in (name, str(folder / name)):
            try:
                ctypes.CDLL(candidate)
                return True
            except OSError:
                continue
    return False


def missing() -> list[str]:
    """Names of the Debian packages to install."""
    version = sysconfig.get_python_version()
    packages = []
    if importlib.util.find_spec("ensurepip") is None:
        packages.append("python3-venv")
    if not has_libpython():
        packages.append(f"libpython{version}")
    if shutil.which("g++") is None:
        packages.append("g++")
    if shutil.which("make") is None:
        packages.append("make")
    return packages


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036, this file is what says so
        sys.exit(
            f"Python must be 3.11 or newer, not {sysconfig.get_python_version()}: "
            "apt install python3"
        )
    if packages := missing():
        names = " ".join(packages)
        sys.exit(f"This machine lacks {' and '.join(packages)}: apt install {names}")
