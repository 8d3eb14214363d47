"""Families of networks: torchvision, Caffe's ResNets, EfficientNet-Lite, timm and custom networks."""
