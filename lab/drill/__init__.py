"""The drill: hurt a fleet at work on purpose, and prove by SQL that nothing accepted was lost and nothing happened twice."""
