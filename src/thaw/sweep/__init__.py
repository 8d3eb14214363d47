"""Run several jobs, each in a process of its own, and resume them."""
