"""Compare several runs: find the best configuration, and test whether differences exceed chance."""
