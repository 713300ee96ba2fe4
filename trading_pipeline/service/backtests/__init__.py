"""Backtests: history traded by the rules that trade live, reported and judged."""
