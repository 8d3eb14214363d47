"""Features: the output of frozen stages, computed once and used instead of images."""
