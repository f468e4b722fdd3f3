"""Pairs as tensors: encoded once, kept on disk, read a step ahead.

Read `encode` (a whole dataset), `cache` (one pair), `batches` (their order), `sampling` (what
chance decides about a step) and `prefetch` (the next step's tensors). `sizes` says how
large pictures are, `subject` is one to try a LoRA on, `pixels` is between pictures and tensors.
"""
