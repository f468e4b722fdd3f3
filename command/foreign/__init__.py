"""Other trainers' files as jobs.

Read `read` (whose file is it), then `translate` (how one setting becomes another) and any trainer:
`ai_toolkit`, `kohya`, `kohya_gui`, `diffusion_pipe`, `simpletuner`, `onetrainer`, `t2itrainer`,
`diffusers`, `diffsynth`. `terms` and `models` hold what several of them call alike, `contents`
opens YAML, TOML, JSON and scripts.
"""
