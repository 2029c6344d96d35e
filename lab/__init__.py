"""The local fleet: blank Debian hosts as containers on this machine."""
