"""Export a trained model to other formats, and compare each export's predictions with the checkpoint's."""
