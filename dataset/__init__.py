"""Pairs on disk: find, check, crop, degrade, save. No torch and no ComfyUI in here.

Read `pair` (the type every stage passes on), `load` (from the user's input to a dataset), then the
sources: `match` and `names` (folders), `table`, `archive`; `image` opens any picture, `check` finds
flaws, `geometry` and `prepare` crop, `split` holds pairs out, `store` writes.
"""
