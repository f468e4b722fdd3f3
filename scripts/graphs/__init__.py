"""The graphs in `workflows/`.

`shipped`, `families`, `dataset`, `captions`, `choosing` and `style` say what is in them; `draw`
lays them out in the real front end and saves them; `thumbnails` makes their pictures.
"""
