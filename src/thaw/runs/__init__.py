"""A run's folder and configuration: check options, write files, stop and resume."""
