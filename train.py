"""Train a pretrained network on your images: python train.py strategy=feature_extractor.

The same as `thaw train`; thaw/commands/train.py reads as the list of what happens.
"""

from thaw.commands import launch

if __name__ == "__main__":
    launch("train")
else:
    from thaw.commands.train import main as main
