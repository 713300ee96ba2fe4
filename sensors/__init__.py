"""When: bar closes, approvals, orders, the session's close, and what is done when a run fails."""
