"""Orders after the verdict: the gate, what the broker says of them, and what protects what was bought."""
