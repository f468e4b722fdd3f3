"""How fast and how small training is.

`python scripts/benchmark` measures a step (`cases`, `measure`), `captions` the captioners, and
`upkeep` what saving, logging and showing cost a run.
"""
