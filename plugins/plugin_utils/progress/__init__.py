"""What an operator sees of a run: the live area, and what the run ends with."""
