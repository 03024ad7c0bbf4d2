import torch

from senet.train.detection.matching import match

FAR, NEAR = [50.0, 50, 60, 60], [1.0, 0, 11, 10]
HERE = [0.0, 0, 10, 10]


def boxes(*rows):
    return torch.tensor(rows).reshape(-1, 4)


def labels(*values):
    return torch.tensor(values, dtype=torch.int64)


def found(detected, of, there, what, crowd=None):
    crowd = torch.zeros(len(what), dtype=torch.bool) if crowd is None else torch.tensor(crowd)
    result = match(boxes(*detected), labels(*of), boxes(*there), labels(*what), crowd)
    return result.found, result.false, result.missed


def test_found_missed_and_false():
    assert found([HERE, FAR], [1, 1], [NEAR, [100.0, 0, 110, 10]], [1, 1]) == ([0], [1], [1])


def test_only_one_detection_is_of_an_object_the_surest():
    assert found([NEAR, HERE], [1, 1], [HERE], [1]) == ([0], [1], [])


def test_another_class_is_false():
    assert found([HERE], [2], [HERE], [1]) == ([], [0], [0])


def test_what_lies_in_a_crowd_is_neither_found_nor_false_nor_missed():
    assert found([[2.0, 2, 8, 8]], [1], [[0.0, 0, 90, 90]], [1], [True]) == ([], [], [])
    assert found([FAR], [1], [HERE], [1], [True]) == ([], [0], [])


def test_nothing():
    assert found([], [], [HERE], [1]) == ([], [], [0])
    assert found([HERE], [1], [], []) == ([], [0], [])
