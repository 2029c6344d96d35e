"""Runs applications that were not written for the kit, hurts their fleet, and looks in their own databases for lost work."""
