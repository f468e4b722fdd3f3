"""From losses and pictures to a verdict.

Read `score` (the whole), `heldout` (losses), `verdict` (under-, well or over-fitted), `second_look`
(more draws where it is close), `finalists` and `measures` (pictures), `report` (in words).
"""
