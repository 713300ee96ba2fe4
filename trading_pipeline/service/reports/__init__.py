"""What became of decisions, counted: outcomes, figures with their counts, and the model report."""
