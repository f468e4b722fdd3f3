"""How the demo model in `models/demo` was made. It is finished: read, and do not train it again.

`train` is the entry; `data`, `edits`, `batches`, `vae`, `transformer`, `lessons`, `separation`,
`optimizer` and `parallel` are its parts. `evaluate` measures it, `sample_pairs` makes the graphs'
pictures.
"""
