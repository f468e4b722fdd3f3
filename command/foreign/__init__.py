"""Other trainers' files as jobs.

Read `read` (which trainer a file is from), then `translate` (how settings are converted) and any
trainer: `ai_toolkit`, `kohya`, `kohya_gui`, `diffusion_pipe`, `simpletuner`, `onetrainer`,
`t2itrainer`, `diffusers`, `diffsynth`. `terms` and `models` have the terms that several of them
share, `contents` opens YAML, TOML, JSON and scripts.
"""
