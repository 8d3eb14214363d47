"""The demo: a built-in data set of drawn animals, and weights pretrained on drawings of other animals."""
