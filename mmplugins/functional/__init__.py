"""Exact fused arithmetic: plain tensors in, plain tensors out.

Each function computes the short formula in its docstring, on any device and in either memory
format, and keeps that format. For gradients it saves only what the backward pass cannot recompute
cheaply; differentiating twice is an error. While a graph is recorded (``torch.compile``,
``torch.export``, tracing, ONNX) the plain formulas run, which a compiler fuses itself; only the
convolutions of :mod:`.inference_conv` stay what they are in ``torch.compile``, as operators.
"""
