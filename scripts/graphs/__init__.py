"""The graphs in `workflows/`.

`shipped`, `dataset`, `captions`, `choosing` and `style` say what is in them; `draw` lays them out
in the real front end, saves them and photographs them.
"""
