"""A training run on disk.

Read `run` (its folders, checkpoints and log), `name`, `identity` (what it was made from), `state`
(what continuing needs), `lock` (one process at a time), `job` (the YAML file that describes it),
`start` (the LoRA it begins with), `rescue` (a second place where the first refuses), `metadata` and
`export` (LoRA files that others read).
"""
