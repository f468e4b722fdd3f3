"""Training a LoRA on the weights that ComfyUI has loaded.

Read `loop.py` first: the whole loop is there. Then `session.py` (one run in progress) and the four
it is made of: `memory.py` (what stays on the device), `trials.py` (8-bit and compiled layers, tried
before they are used), `learner.py` (gradients into weights), `saving.py` (the work kept on disk).
`request.py` is what a caller asks for, `config.py` has every setting, `presets.yaml` ready ones.

Rooms, each importing only what stands before it:

    ground    setting, config, batch, files, …  settings, a batch, several processes
    host/     ComfyUI                           the only rooms that import it
    network/  the LoRA on frozen linears        adapters, attaching, compiling, 8-bit products
    families/ what is particular to a model     one file each, behind one protocol
    loss/     what a step minimises             flow matching, held-out pairs, preservation
    runs/     a run on disk                     checkpoints, state, log, job file, export
    data/     pairs as tensors                  encoding, cache, batches, what a step draws
"""
