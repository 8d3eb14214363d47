"""Features: the output of a network's frozen stages, computed once and then used instead of images."""
