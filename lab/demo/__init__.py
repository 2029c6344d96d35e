"""Sends real work through a fleet and reports the results."""
