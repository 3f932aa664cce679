"""Parameter decomposition: components, causal importance, masks, losses and their training."""
