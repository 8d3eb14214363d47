"""Image folders, splits, transforms and loading."""
