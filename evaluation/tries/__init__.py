"""Short runs that compare settings: which learning rate, rank, … learns this edit best.

Read `axes` (the values to try), `halving` (which tries continue, and for how long), `search` (the
short runs) and `report` (the table, the chart, the verdict).
"""
