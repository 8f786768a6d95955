"""Chaos: kills, freezes and cuts off the parts of a cluster under load, and checks what is left.

`python -m chaos` is the campaign (`make chaos`); `checker` reads what a campaign left in its folder and nothing else.
Nothing here uses the programs' code. Needs Python 3.9 and, for the archive, zstandard.
"""
