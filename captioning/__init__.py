"""Captions for the pairs: a shared instruction, and a captioner's description of each picture.

Read `compose` (the parts of a caption), `recipe` (how one is made), `run` (over a whole dataset),
`captioner` (the interface of every captioner) and then any of them: `blip`, `florence`,
`joycaption`, `tagger`, `image_text`, `core_vlm`. `edit` corrects captions, `sidecars` writes them
and keeps the old ones.
"""
