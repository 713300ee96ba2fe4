"""Mutation testing: what is mutated and judged by which tests, the process that runs mutmut, and what is known of survivors."""
