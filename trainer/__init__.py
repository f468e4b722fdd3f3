"""Training a LoRA on the weights that ComfyUI has loaded.

Read `loop.py` first: the whole loop is there. Then `session.py` (one run in progress), `learner.py`
(gradients into weights) and `config.py` (every setting).

Rooms, each importing only what stands before it:

    ground    config, batch, files, parallel    settings, a batch, several processes
    host/     ComfyUI                           the only rooms that import it
    network/  the LoRA on frozen linears        adapters, attaching, compiling, 8-bit products
    loss/     what a step minimises             flow matching, held-out pairs, preservation
    runs/     a run on disk                     checkpoints, state, log, job file, export
    data/     pairs as tensors                  encoding, cache, batches, what a step draws
"""
