"""Models asked: what they are told, what it may cost, what came of it, and what changed under a strategy that asks one."""
