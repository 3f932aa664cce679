"""Attributions: the definition by autograd, and the exact closed forms that replace it."""
