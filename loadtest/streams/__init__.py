"""The load of streams, which k6 can't read: arrivals that are due at a rate, each of which reads an answer as it is written.

`python -m streams SCENARIO`, as run.py starts it, writes what k6 writes: samples (CSV), a summary (JSON), and the exit status 99
if a threshold is broken. So one page shows both. It knows the API and nothing else of Infera.
"""
