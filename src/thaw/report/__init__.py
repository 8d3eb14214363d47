"""The output of one run: results, figures and TensorBoard events."""
