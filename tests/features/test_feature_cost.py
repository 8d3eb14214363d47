import pytest

from thaw.features import cost
from thaw.features.cost import Cost, enough_views

RESNET34_AT_224 = 7.3e9


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_vector_per_image_always_pays_when_it_is_used_again(device):
    cost = Cost(RESNET34_AT_224, 1024, device)
    assert cost.saved(uses=10, passes=4) > 0
    assert cost.saved(uses=2, passes=1) > 0
    assert cost.saved(uses=1, passes=1) < 0


def test_large_maps_that_are_quickly_computed_do_not_pay_on_a_gpu(monkeypatch):
    monkeypatch.setattr(cost, "usable_cores", lambda: 16)
    after_the_first_layer = Cost(2.4e8, 64 * 56 * 56 * 2, "cuda")
    assert after_the_first_layer.saved(uses=10, passes=4) < 0
    assert Cost(4e9, 256 * 14 * 14 * 2, "cuda").saved(uses=10, passes=4) > 0


def test_more_cores_compute_more(monkeypatch):
    saved = []
    for cores in (1, 16):
        monkeypatch.setattr(cost, "usable_cores", lambda cores=cores: cores)
        saved.append(Cost(RESNET34_AT_224, 1024, "cpu").saved(uses=10, passes=4))
    assert saved[0] > 4 * saved[1]


def test_views_are_a_few_and_no_more_than_epochs():
    assert [enough_views(epochs) for epochs in (1, 2, 3, 8, 10, 12, 100)] == [1, 2, 2, 2, 3, 4, 4]
