"""Settings tried before a long run: which learning rate, rank, … learns this edit best.

Read `axes` (what is to be tried), `halving` (who goes on, and for how long), `search` (the short
runs) and `report` (the table, the chart, the verdict).
"""
