"""Sizes, settings and sections of one service, from its inputs: pure arithmetic, one file per service."""
