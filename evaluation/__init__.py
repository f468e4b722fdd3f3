"""Which checkpoint to keep: pictures to look at, scores, verdicts, and the curves of a run.

Read the rooms: `pictures/` (samples of a LoRA, made once and kept), `compare/` (the grid, the
viewer's data, blind votes), `score/` (losses and pictures into verdicts), `progress/` (a run while
it trains, and its page), `tries/` (short runs that compare settings). `keep` copies the chosen
checkpoint.
"""
