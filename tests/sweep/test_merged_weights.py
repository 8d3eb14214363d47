"""Averages of weights compute what the definitions say, and are kept only where the validation images agree."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("optuna")

from thaw.data.datamodule import image_folders
from thaw.inference.folder_predictions import predict_folder
from thaw.inference.trained_model import load_model
from thaw.storage.checkpoints import read_checkpoint
from thaw.sweep.search.merged_weights import Merging
from train import main

NET = ["strategy=fine_tune", "strategy.lr=0.05"]


@pytest.fixture
def runs(tiny_run, image_folder):
    """Two runs from the same start that differ in their seeds, and a data module with test images."""
    root = image_folder()
    folders = []
    for seed in (0, 1):
        cfg = tiny_run(*NET, f"seed={seed}", "data.val_as_test=true", root=root, folder=f"run{seed}")
        main(cfg)
        folders.append(cfg.output_dir)
    data = image_folders(root, 16, val_as_test=True)
    return [Path(folder) for folder in folders], data


def weights(path):
    return {key: tensor for key, tensor in read_checkpoint(path)["state_dict"].items() if tensor.is_floating_point()}


def test_a_soup_is_the_mean_of_its_members_and_predicts_as_a_network_with_these_weights(runs):
    folders, data = runs
    soup = Merging(data, lambda: 1e9, lambda model: (1.0, 0.0)).soup(folders)  # every member is welcome
    first, second = (weights(folder / "checkpoints" / "best.ckpt") for folder in folders)
    merged = weights(soup.path)
    trained = [key for key in first if "running" not in key]
    assert any(not torch.equal(first[key], second[key]) for key in trained)
    for key in trained:
        torch.testing.assert_close(merged[key], (first[key] + second[key]) / 2)
    model = load_model(soup.path, exact=True)
    assert np.array_equal(predict_folder(model, sorted(data.test.samples), []).clean.right, soup.right)
    assert soup.name == "the soup of 2 runs"


def test_a_member_that_makes_the_soup_worse_stays_out(runs):
    folders, data = runs
    ranks = iter([(0.9, 0.0), (0.8, 0.0)])
    assert Merging(data, lambda: 1e9, lambda model: next(ranks)).soup(folders) is None
    assert not list(folders[0].glob("**/soup.ckpt"))


def test_the_best_interpolation_is_chosen_by_validation_images(runs):
    folders, data = runs
    ranks = iter([(0.5, 0), (0.5, 0), (0.6, 0), (0.9, 0), (0.7, 0), (0.7, 0)])  # both ends, then 20, 40, 60 and 80 %
    wise = Merging(data, lambda: 1e9, lambda model: next(ranks)).wise(folders[0], folders[1])
    probe, tuned = (weights(folder / "checkpoints" / "best.ckpt") for folder in folders)
    assert "(40 % fine-tuned)" in wise.name
    for key, tensor in weights(wise.path).items():
        if "running" not in key:
            torch.testing.assert_close(tensor, 0.4 * tuned[key] + 0.6 * probe[key])


def test_an_end_that_is_as_good_needs_no_interpolation_and_no_time_none(runs):
    folders, data = runs
    assert Merging(data, lambda: 1e9, lambda model: (0.5, 0.0)).wise(*folders) is None
    rising = iter(range(9))
    assert Merging(data, lambda: -1.0, lambda model: (next(rising), 0.0)).wise(*folders) is None


def test_batch_norms_with_their_own_statistics_get_new_ones(runs):
    folders, data = runs
    for place, folder in enumerate(folders):  # as after training with keep_statistics=false
        path = folder / "checkpoints" / "best.ckpt"
        checkpoint = torch.load(path, weights_only=True)
        for key, tensor in checkpoint["state_dict"].items():
            if key.endswith("running_mean"):
                tensor += 1 + place
        torch.save(checkpoint, path)
    soup = Merging(data, lambda: 1e9, lambda model: (1.0, 0.0)).soup(folders)
    merged, old = weights(soup.path), weights(folders[0] / "checkpoints" / "best.ckpt")
    means = [key for key in merged if key.endswith("running_mean")]
    assert means
    assert all(not torch.allclose(merged[key], old[key] + 0.5) for key in means)
    assert all(torch.isfinite(merged[key]).all() for key in means)
    first, model = means[0].removeprefix("net.").rpartition(".")[0], load_model(soup.path, exact=True)
    inputs = []
    model.net.get_submodule(first).register_forward_pre_hook(lambda module, images: inputs.append(images[0]))
    predict_folder(model, data.train.samples, [])
    torch.testing.assert_close(merged[means[0]], torch.cat(inputs).mean((0, 2, 3)), atol=1e-4, rtol=1e-4)
