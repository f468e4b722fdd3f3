"""A LoRA on frozen linears: its layers, their gradients, and attaching them to a loaded model.

Read `frozen` (what a frozen linear must offer), `lora` (the low-rank layers), `adapters` (DoRA,
LoKr, LoHa) and `attach` (attaching and detaching them). `opaque` and `compile` are for
torch.compile, `matmul8` and `formats8` for 8-bit matrix products.
"""
