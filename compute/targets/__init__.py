"""The small target models that Tributary trains itself, and their training."""
