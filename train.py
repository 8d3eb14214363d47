"""Train a pretrained network on your images: python train.py strategy=feature_extractor.

This is the same as `thaw train`. All steps of a run are in the function main of thaw/commands/train.py.
"""

from thaw.commands import launch

if __name__ == "__main__":
    launch("train")
else:
    from thaw.commands.train import main as main
