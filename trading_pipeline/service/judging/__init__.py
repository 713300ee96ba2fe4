"""What the rulebook is told of the account, and why a strategy may not go on."""
