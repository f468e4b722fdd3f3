"""Pairs as tensors: encoded once, kept on disk, read a step ahead.

Read `encode` (a whole dataset), `cache` (one pair), `batches` (their order), `sampling` (the random
choices of a step) and `prefetch` (the next step's tensors). `sizes` computes picture sizes,
`subject` is a picture to test a LoRA on, `pixels` converts between pictures and tensors.
"""
