"""Training and validation batches of a data module, as a net receives them."""

from thaw.data.rotation import apply_augmentation


def batches(data):
    return [*map(apply_augmentation, data.train_dataloader()), *map(apply_augmentation, data.val_dataloader())]


def same(first, second):
    return all(a.equal(b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True))
