"""Use a trained model: predict, evaluate, explain, export and serve."""
