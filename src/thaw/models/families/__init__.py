"""One module for each source of networks: torchvision, Caffe, timm and EfficientNet-Lite."""
