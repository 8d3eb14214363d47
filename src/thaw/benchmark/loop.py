"""The benchmark's reference: the cats-and-dogs tutorial in plain PyTorch. python -m thaw.benchmark.loop --help

The loop trains a torchvision network in float32, with batches of 4 that four workers load, SGD at 0.001 with momentum
0.9, and StepLR (factor 0.1 every 7 epochs). This module does not import Thaw, so that no part of Thaw is timed.
"""

import argparse
import copy
import json
import time
from pathlib import Path
from typing import cast

import torch
import torchvision
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import ResNet

BATCH_SIZE, WORKERS = 4, 4
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

# Strategy -> prefixes of the names of trainable parameters.
TRAINABLE = {"fine_tune": ("",), "feature_extractor": ("fc.",), "layer3_layer4": ("layer3.", "layer4.", "fc.")}


def image_transforms(train_size: int, image_size: int) -> dict[str, transforms.Compose]:
    end = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    augment = [
        transforms.RandomResizedCrop(train_size),
        transforms.RandomRotation(15),
        transforms.RandomHorizontalFlip(),
    ]
    centre = [transforms.Resize(round(image_size * 256 / 224)), transforms.CenterCrop(image_size)]
    return {"train": transforms.Compose([*augment, *end]), "val": transforms.Compose([*centre, *end])}


def image_loaders(root: Path, train_size: int, image_size: int) -> dict[str, DataLoader]:
    return {
        split: DataLoader(ImageFolder(root / split, transform), BATCH_SIZE, shuffle=True, num_workers=WORKERS)
        for split, transform in image_transforms(train_size, image_size).items()
    }


def build_model(name: str, weights: Path, strategy: str, classes: int) -> nn.Module:
    """Return a ResNet with the weights in the file `weights` and a new head; freeze parameters as in `strategy`."""
    model = cast(ResNet, torchvision.models.get_model(name))
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.fc = nn.Linear(model.fc.in_features, classes)
    for key, parameter in model.named_parameters():
        parameter.requires_grad = key.startswith(TRAINABLE[strategy])
    return model


def train(model: nn.Module, images: dict[str, DataLoader], epochs: int, lr: float, device: torch.device) -> list[dict]:
    """Train `model` and load the weights of its best epoch; return each epoch's seconds and accuracies."""
    optimizer = SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=lr, momentum=0.9)
    scheduler = StepLR(optimizer, step_size=7, gamma=0.1)
    best, best_acc, rows = copy.deepcopy(model.state_dict()), 0.0, []
    for _ in range(epochs):
        start = time.perf_counter()
        train_acc = run_epoch(model, images["train"], device, optimizer)
        scheduler.step()
        middle = time.perf_counter()
        val_acc = run_epoch(model, images["val"], device)
        end = time.perf_counter()
        if val_acc > best_acc:
            best, best_acc = copy.deepcopy(model.state_dict()), val_acc
        rows.append({"train": middle - start, "val": end - middle, "train_acc": train_acc, "val_acc": val_acc})
    model.load_state_dict(best)
    return rows


def run_epoch(model: nn.Module, images: DataLoader, device: torch.device, optimizer: SGD | None = None) -> float:
    """Pass over `images` once and return the accuracy; train the model if there is an `optimizer`."""
    model.train(optimizer is not None)
    right = loss_sum = 0
    for inputs, labels in images:
        inputs, labels = inputs.to(device), labels.to(device)
        if optimizer:
            optimizer.zero_grad()
        with torch.set_grad_enabled(optimizer is not None):
            outputs = model(inputs)
            loss = nn.functional.cross_entropy(outputs, labels)
            if optimizer:
                loss.backward()
                optimizer.step()
        loss_sum += loss.item() * len(inputs)  # loss_sum is unused, but tutorials log it, and item() takes time
        right += (outputs.argmax(1) == labels).sum().item()
    return right / len(cast(ImageFolder, images.dataset))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m thaw.benchmark.loop")
    parser.add_argument("root", type=Path, help="contains train/ and val/ with a folder per class")
    parser.add_argument("result", type=Path, help="the JSON file to write")
    parser.add_argument("--model", required=True, help="name of a torchvision ResNet")
    parser.add_argument("--weights", type=Path, required=True, help="file with the model's state dict")
    parser.add_argument("--strategy", choices=TRAINABLE, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--train-size", type=int, default=256)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    torch.backends.cudnn.benchmark = True
    gpu = "cuda:0" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None
    device = torch.device(gpu or "cpu")
    images = image_loaders(options.root, options.train_size, options.image_size)
    classes = len(cast(ImageFolder, images["train"].dataset).classes)
    model = build_model(options.model, options.weights, options.strategy, classes).to(device)
    began = time.time()
    epochs = train(model, images, options.epochs, options.lr, device)
    options.result.write_text(json.dumps({"began": began, "epochs": epochs, "device": str(device)}))


if __name__ == "__main__":
    main()
