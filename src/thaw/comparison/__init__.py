"""What several runs say together: which configuration is best, and whether that is more than chance."""
