"""The training objective.

Read `flow` (noise, timesteps, the velocity loss), then `objective` (the loss of a batch), `holdout`
(the same for held-out pairs), `curve` (whether the held-out losses still fall) and `preserve`
(keeping the base model's answers to other instructions).
"""
