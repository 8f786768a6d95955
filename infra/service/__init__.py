"""The servers that a cluster stands on, one module each; `infra/services.py` is the command."""
