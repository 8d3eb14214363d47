"""The head at its optimum: logistic regression on frozen features, solved instead of trained."""
