"""A training run on disk.

Read `run` (its folders, checkpoints and log), `name`, `identity` (the settings, pairs and models it
was made from), `state` (what resuming needs), `lock` (one process per run), `job` (the YAML file
that describes it), `start` (the LoRA it begins with), `rescue` (where work goes if its folder
cannot be written), `metadata` and `export` (LoRA files for other programs).
"""
