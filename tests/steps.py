"""Find out which tensors a training step changes."""

import torch
import torch.nn.functional as F

from thaw.strategy.phases import Strategy
from thaw.training.classifier import ImageClassifier, Recipe


def changed_by_a_step(net, images):
    """Return the state-dict keys that one training step changes when only the head is trainable."""
    classifier = ImageClassifier(net, list("abcde"), Recipe(None, None))
    classifier.start(Strategy("x", [{"train": ["head"]}], lr=0.1).schedule(net, 1)[0])
    before = {key: value.clone() for key, value in net.state_dict().items()}
    # The learning rate is high, because the features of an untrained net can be close to zero.
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1e6)
    F.cross_entropy(classifier(images), torch.tensor([0, 1])).backward()
    optimizer.step()
    return {key for key, value in net.state_dict().items() if not value.equal(before[key])}
