"""Attack what must not break, and print a table of what came of it.

    python scripts/proofs/reliability                 everything, half an hour of one core
    python scripts/proofs/reliability kills disk      some: kills disk weights files runs requests

`COMFYUI_PATH` names ComfyUI's folder. Exit code 1 if anything was lost, touched or wrongly called
finished. Results: docs/proofs/reliability.md.
"""

from __future__ import annotations

import importlib
import logging
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

PARTS = ("kills", "disk", "weights", "files", "runs", "requests")


def main() -> int:
    from ground import Ground

    logging.disable(logging.CRITICAL)
    ground, wrong = Ground(), 0
    print("| attack | cases | outcome | wrong |\n| --- | --- | --- | --- |")
    for part in sys.argv[1:] or PARTS:
        started = time.process_time()
        for tally in importlib.import_module(f"{part}_attack").attack(ground):
            print(tally, flush=True)
            wrong += len(tally.wrong)
        print(f"  {part}: {time.process_time() - started:.0f} s of one core", file=sys.stderr)
    shutil.rmtree(ground.folder, ignore_errors=True)
    return min(1, wrong)


sys.exit(main())
