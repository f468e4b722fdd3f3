"""The trainer without the graph, from ComfyUI's folder:

    python -m custom_nodes.kontext-lora-trainer train run.yaml

or from anywhere by this folder's path: python <this folder> train run.yaml
"""

import importlib
import importlib.util
import sys
from pathlib import Path

if __name__ == "__main__":
    if not __package__:
        # Started by its path. Python has then put this folder on its search path, where our `nodes`
        # would hide ComfyUI's.
        here = Path(__file__).absolute().parent
        sys.path[:] = [path for path in sys.path if Path(path).absolute() != here]
        __package__ = "kontext_lora_trainer"
        spec = importlib.util.spec_from_file_location(
            __package__, here / "__init__.py", submodule_search_locations=[str(here)]
        )
        assert spec  # never None for a file
        sys.modules[__package__] = importlib.util.module_from_spec(spec)
    sys.exit(importlib.import_module(".command.main", __package__).main())
