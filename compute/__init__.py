"""Tensors in, tensors out: the mathematics of Tributary. Knows no HTTP, no SQL and no screen."""
