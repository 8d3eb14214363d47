"""Training phase by phase: the classifier, the trainer, callbacks and schedules."""
