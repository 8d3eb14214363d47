"""Families of nets, one module each: torchvision, Caffe's ResNets, EfficientNet-Lite, timm and nets of one's own."""
