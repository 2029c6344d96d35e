"""The CI of the kit: its steps, how each is run and counted, and the result of all."""
