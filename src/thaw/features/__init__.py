"""What is frozen, computed once: features in place of images."""
