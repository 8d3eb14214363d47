"""Compare several runs: which configuration is best, and whether the difference is more than chance."""
