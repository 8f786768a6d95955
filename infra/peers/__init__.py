"""Other engines on SmolLM2's weights, as `make bench-models` puts ours beside them."""
