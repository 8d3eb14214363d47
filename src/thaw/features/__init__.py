"""Features of frozen stages, computed once and used in place of images."""
