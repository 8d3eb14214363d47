"""Networks grouped by their source: torchvision, Caffe, EfficientNet-Lite, timm and custom code."""
