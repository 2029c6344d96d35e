"""The control node's library. A package imports only those to its right:

refusals, reports → capacity, network, trust → sizing → fleet (tests/test_layers.py).
"""
