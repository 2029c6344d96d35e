"""Which ports of a fleet are open to whom, compared with the flows that its inventory declares."""
