"""The record read back: anchored, verified, walked through, and derived again."""
