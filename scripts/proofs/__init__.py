"""Measured claims of the docs.

`verdicts`: is the recommended checkpoint the best? `matmul8`: what do 8-bit products cost?
`checks`: recall and precision of the dataset checks.
"""
