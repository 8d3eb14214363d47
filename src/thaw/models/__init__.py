"""What learns: backbones as named stages, pretrained weights and the classifier."""
