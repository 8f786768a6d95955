"""What can be checked of the deployment without a container engine and without a cluster; `validate.sh` is the command."""
