"""What a fleet shows to whom: every port from every place, held against the flows that its inventory declares."""
