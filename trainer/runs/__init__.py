"""A training run on disk.

Read `run` (its folders and checkpoints), `run_file` and `identity` (the settings, pairs and models
it was made from), `log`, `name`, `state` (what resuming needs), `lock` (one process per run), `job`
and `job_values` (the same YAML file, written by hand), `start` (the LoRA it begins with), `rescue`
(where work goes if its folder cannot be written), `metadata` and `export` (LoRA files for other
programs).
"""
