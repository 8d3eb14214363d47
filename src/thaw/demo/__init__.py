"""The built-in data set: drawn animals, and weights pretrained on drawings of other animals."""
