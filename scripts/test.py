"""Run every check: set-up, ruff, mypy, pytest. Extra arguments go to pytest.

    python scripts/test.py
    python scripts/test.py -m "not slow"
    python scripts/test.py tests/dataset -k exif
    python scripts/test.py tests/web -n 0 -s           # in one process, which prints

Tests run side by side, a process a core. A few that fail are tried once more, alone: what fails
only beside others is printed, but does not count. Runs with any Python from 3.10 on; what it needs
is installed into `.host/` the first time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import host as hosts

# Checked as parts of one package: their relative imports reach across the folders.
PACKAGES = ("dataset", "captioning", "trainer", "evaluation", "command", "nodes", "routes")
MOST_TRIED_AGAIN = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    hosts.add_arguments(parser)
    options, pytest_arguments = parser.parse_known_args()
    host = hosts.find_or_set_up(options.comfyui, options.python, tests=True)
    os.environ["COMFYUI_PATH"] = str(host.comfyui)
    os.environ.setdefault("PYTHONUTF8", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the cores are busy with other tests

    python = [str(host.python), "-m"]
    results = {
        "ruff": run([*python, "ruff", "check", "."]),
        "format": run([*python, "ruff", "format", "--check", "-q", "."]),
        "mypy": type_check(host.python),
        "pytest": run_tests([*python, "pytest"], pytest_arguments),
    }
    failed = [check for check, code in results.items() if code]
    if failed:
        print(f"FAILED: {', '.join(failed)}", flush=True)
    return 1 if failed else 0


def run(command: list[str], cwd: Path = hosts.ROOT) -> int:
    print("$", *command[2:], flush=True)
    return subprocess.run(command, cwd=cwd).returncode


def run_tests(pytest: list[str], arguments: list[str]) -> int:
    """Browsers and servers time out on a machine that other tests keep busy: a few failures are
    tried again with nothing beside them."""
    code = run([*pytest, *side_by_side(), *arguments])
    known = hosts.ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"
    failed = json.loads(known.read_text("utf-8")) if code == 1 and known.exists() else {}
    if not 0 < len(failed) <= MOST_TRIED_AGAIN:
        return code
    print("Tried again, alone:", *failed, sep="\n  ", flush=True)
    return run([*pytest, "-n", "0", "--last-failed"])


def side_by_side() -> list[str]:
    """pytest's arguments for a process a core; each holds a ComfyUI and gets whole files."""
    count = min(4, os.cpu_count() or 1)
    return ["-n", str(count), "--dist", "loadfile", "--no-loadscope-reorder"]


def type_check(python: Path) -> int:
    """mypy over the pack as the package `kontext`: a checkout's folder need not be a valid name."""
    with tempfile.TemporaryDirectory() as scratch:
        pack = Path(scratch) / "kontext"
        ignored = shutil.ignore_patterns("__pycache__")
        for folder in PACKAGES:
            shutil.copytree(hosts.ROOT / folder, pack / folder, ignore=ignored)
        for module in hosts.ROOT.glob("*.py"):
            shutil.copy(module, pack)
        packages = ["-p", "kontext"]
        settings = ["--config-file", str(hosts.ROOT / "pyproject.toml")]
        cache = ["--cache-dir", str(hosts.ROOT / ".mypy_cache")]
        return run([str(python), "-m", "mypy", *settings, *cache, *packages], cwd=Path(scratch))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except hosts.Failure as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit(130)
