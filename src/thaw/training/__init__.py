"""How it learns: the hardware, the trainer, the loop over phases and what is said meanwhile."""
