"""Which checkpoint to keep: pictures to look at, scores, verdicts, and the course of a run.

Read the rooms: `pictures/` (what a LoRA makes of a picture, drawn once and kept), `compare/` (the
grid, the viewer's data, blind votes), `score/` (losses and pictures into verdicts), `progress/` (a
run while it trains, and its page), `tries/` (settings before a long run). `keep` copies the chosen
one.
"""
