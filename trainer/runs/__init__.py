"""A training run on disk.

Read `run` (its folders, checkpoints, state and log), `identity` (what it was made from), `job` (the
YAML file that describes it), `rescue` (a second place where the first refuses) and `export` (LoRA
files that others read).
"""
