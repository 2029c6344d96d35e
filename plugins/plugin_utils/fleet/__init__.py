"""The model of the fleet that every other package reads."""
