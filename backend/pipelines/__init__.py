"""Long computations that join the compute and storage rooms; each module is one command."""
