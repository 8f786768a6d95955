"""Tests of the load programs. Run by `python3 -m unittest discover --start-directory loadtest/tests --top-level-directory loadtest`."""
