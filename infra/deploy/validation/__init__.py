"""Checks the deployment's files without a container engine and without a cluster; `validate.sh` is the command."""
