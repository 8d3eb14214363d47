"""What comes out: the evaluation of the best weights, figures and the run's record."""
