"""Networks as chains of named stages, and their pretrained weights."""
