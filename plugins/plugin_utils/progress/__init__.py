"""The output of a run: the live area, and the summary at the end."""
