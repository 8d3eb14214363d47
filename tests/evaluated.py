"""A net, a folder of images, and metrics computed image by image, for tests of the evaluation."""

from pathlib import Path

import numpy as np
import torch
from nets import tiny_net
from PIL import Image
from scipy.special import softmax

from thaw.data.preprocessing import Preprocessing
from thaw.inference.trained_model import TrainedModel

CLASSES = ['<b>&"x', "a", "ü猫"]


def untrained(run: Path) -> TrainedModel:
    """Return an untrained model that predicts each of its classes for some images."""
    torch.manual_seed(0)
    net = tiny_net(len(CLASSES)).eval()
    with torch.no_grad():
        net.fc.weight *= 9
        net.fc.bias -= net(torch.randint(256, (50, 3, 1, 1), dtype=torch.uint8).expand(-1, -1, 32, 32)).mean(0)
    source = run / "checkpoints" / "best.ckpt"
    return TrainedModel(net, CLASSES, Preprocessing(37, 32), 0.5, torch.device("cpu"), source)


def fill(root, classes, count=4):
    random = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(count):
            colours = random.integers(0, 256, (3, 4, 3), dtype=np.uint8)
            Image.fromarray(colours).resize((48, 40)).save(root / name / f"{number}.png")
    return root


def by_hand(labels, logits, temperature):
    """Compute the metrics in `MEASURES` with loops over images and classes."""
    predicted = logits.argmax(1)
    recalls, f1s = [], []
    for label in set(labels.tolist()):
        hits = ((labels == label) & (predicted == label)).sum()
        recalls.append(hits / (labels == label).sum())
        precision = hits / max((predicted == label).sum(), 1)
        f1s.append(2 * precision * recalls[-1] / (precision + recalls[-1]) if hits else 0)
    both = [softmax(logits.astype(float) / t, axis=1) for t in (temperature, 1.0)]
    eces = []
    for probabilities in both:
        confidence, gap = probabilities.max(1), 0
        for k in range(15):
            own = (confidence >= k / 15) & (confidence < (k + 1) / 15)
            if own.any():
                gap += own.mean() * abs(confidence[own].mean() - (predicted == labels)[own].mean())
        eces.append(gap)
    loss = -np.log(both[0][np.arange(len(labels)), labels]).mean()
    return [np.mean(recalls), np.mean(f1s), loss, *eces]
