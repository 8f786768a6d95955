"""The servers that a cluster uses, one module each; `infra/services.py` is the command."""
