"""What a training step minimises.

Read `flow` (noise, timesteps, the velocity loss), then `objective` (the loss of a batch), `holdout`
(the same for held-out pairs), `curve` (their course over a run) and `preserve` (keeping what the
base does with other instructions).
"""
