from senet.analysis.metrics import METRICS, metric_of


def test_a_run_is_judged_by_what_its_summary_has():
    assert metric_of({"top1": 1.0}) is METRICS["top1"]
    assert metric_of({"ap": 1.0, "ap50": 2.0}) is METRICS["ap"]
