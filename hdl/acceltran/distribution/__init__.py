"""Networks between clusters: registered trees, fan-out at most 4."""
