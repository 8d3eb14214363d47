"""Limits on how much figures, pages and tables show of a data set with many classes."""

MATRIX = 30  # most classes for which a confusion matrix is drawn; above, the most frequent confusions are listed
KEPT_MATRIX = 100  # most classes for which the counts are written, since they grow with the square
CONFUSIONS = 20  # most confused pairs of classes
ROWS = 100  # rows of a page's table
LINES = 40  # rows of a terminal's table
CANDIDATES = 40  # candidates in a comparison's plots
