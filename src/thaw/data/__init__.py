"""What goes in: image folders, transforms and the drawn demo set."""
