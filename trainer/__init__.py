"""Training a LoRA on the weights that ComfyUI has loaded.

Read `loop.py` first: the whole loop is there. Then `session.py` (one run in progress) and its four
parts: `memory.py` (what stays on the device), `trials.py` (8-bit and compiled layers, tested before
use), `learner.py` (gradients into weights), `saving.py` (checkpoints and state). `request.py` is
the caller's request; `config.py` defines every setting, `presets.yaml` ready-made sets of them.

Rooms; each imports only those above it:

    ground    setting, config, batch, files, …  settings, a batch, several processes
    host/     ComfyUI                           the only rooms that import it
    network/  the LoRA on frozen linears        adapters, attaching, compiling, 8-bit products
    families/ model-specific code               one file per family, behind one protocol
    loss/     the training objective            flow matching, held-out pairs, preservation
    runs/     a run on disk                     checkpoints, state, log, job file, export
    data/     pairs as tensors                  encoding, cache, batches, random choices
"""
