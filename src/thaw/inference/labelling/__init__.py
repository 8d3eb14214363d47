"""Choose unlabelled images to label next."""
