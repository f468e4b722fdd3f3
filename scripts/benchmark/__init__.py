"""How fast and how small training is.

`python scripts/benchmark` measures a step (`cases`, `measure`), `captions` the captioners, and
`upkeep` what saving, logging and showing cost a run. `full_size` trains on files as users download
them (`full_size_files`), `side_by_side` compares a step on such a file with diffusers and PEFT.
"""
