"""How much of a data set with many classes is shown at once, in figures, pages and tables."""

MATRIX = 30  # classes of a confusion matrix that is drawn; of more, the most frequent confusions are
KEPT_MATRIX = 100  # classes of one that is written as numbers, which grow with their square
CONFUSIONS = 20  # pairs of classes that are confused most
ROWS = 100  # of a page's table
LINES = 40  # of a terminal's table
CANDIDATES = 40  # of a comparison, in plots
