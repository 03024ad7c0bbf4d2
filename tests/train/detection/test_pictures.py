import torch

from senet.train.detection.pictures import draw


def test_boxes_are_drawn_where_they_are_and_in_their_colour():
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    drawn = draw(image, [[30, 30, 60, 50]], [""], ["#ff0000"])
    assert drawn.shape == image.shape
    assert drawn[:, 30, 45].tolist() == [255, 0, 0]
    assert drawn[:, 40, 30].tolist() == [255, 0, 0]
    assert drawn[:, 40, 45].tolist() == [0, 0, 0]
    assert image.sum() == 0  # the image itself is left alone


def test_a_scale_and_a_name():
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    plain, named = (draw(image, [[10, 10, 60, 50]], [name], ["#ff0000"], scale=2) for name in ("", "red"))
    assert plain.shape == (3, 120, 160)
    assert plain[:, 60, 21].tolist() == [255, 0, 0]
    assert named.float().sum() > plain.float().sum()


def test_no_box():
    image = torch.randint(255, (3, 8, 8), dtype=torch.uint8)
    assert torch.equal(draw(image, [], [], []), image)
