"""Write a trained model in other formats and check it against its checkpoint."""
