"""The emergency stop: what is in force, its orders of work, and the look back at it."""
