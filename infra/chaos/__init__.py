"""Chaos: a cluster under load is killed, frozen and cut off, and an independent checker looks at what is left.

`python -m chaos` is the campaign (`make chaos`); `checker` reads what a campaign left in its folder and nothing else.
Nothing here uses the programs' code. Python 3.9's standard library, and zstandard for the archive.
"""
