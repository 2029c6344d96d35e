"""Outside judges of a fleet that stands: programs of others, which know nothing of this kit."""
