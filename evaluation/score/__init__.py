"""From losses and pictures to a verdict.

Read `score` (the whole), `heldout` (losses), `verdict` (under-, well or over-fitted), `second_look`
(the finalists' pictures have the last word), `finalists` and `measures` (making and measuring these
pictures), `report` (in words).
"""
