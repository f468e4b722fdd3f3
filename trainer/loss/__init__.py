"""What a training step minimises.

Read `flow` (noise, timesteps, the velocity loss), then `objective` (the loss of a batch), `holdout`
(the same on pairs kept out of training) and `preserve` (holding the LoRA to what the base does).
"""
