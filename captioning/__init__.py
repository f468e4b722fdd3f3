"""Words for the pairs: one instruction, and a description of each picture by a captioner.

Read `compose` (the parts of a caption), `recipe` (how one is made), `run` (over a whole dataset),
`captioner` (what every captioner offers) and then any of them: `blip`, `florence`, `joycaption`,
`tagger`, `image_text`, `core_vlm`. `edit` and `sidecars` correct captions and keep the old ones.
"""
