"""Pairs on disk: find, check, crop, degrade, save. No model and no ComfyUI in here.

Read `pair` (what every stage passes on), `load` (from what a user typed to a dataset), then the
ways in: `match` and `names` (folders), `table`, `archive`; `image` opens any picture, `check` says
what is wrong, `geometry` and `prepare` crop, `split` holds out, `store` writes.
"""
