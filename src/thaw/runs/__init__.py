"""The folder, configuration and frame of a run: what it may write, how it stops and how it resumes."""
