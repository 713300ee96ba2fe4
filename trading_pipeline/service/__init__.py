"""The steps of a cycle and what people do to it, written against the ports and nothing else."""
