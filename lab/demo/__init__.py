"""Sends real work through a fleet and says what became of it."""
