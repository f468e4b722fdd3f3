"""The attack on a run's files: kills, disk faults, interruptions, damaged files, hostile requests.

Read `ground.py` (the tiny model, what a case must leave), `trap.py` (what happens to a file), then
one file an attack.
"""
