"""What one run leaves behind: figures, TensorBoard events and its results."""
