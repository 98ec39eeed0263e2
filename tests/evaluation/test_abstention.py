import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from fakeimg.evaluation import abstention
from tests.evaluation.test_calibration import scored, simulated


@settings(max_examples=80, deadline=None)
@given(scored(), st.sampled_from([0.5, 0.2, 0.9]))
def test_augrc_equals_its_closed_form(case: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    """Traub et al., equation 7: by the accuracy and how well confidence ranks the errors last, ties counting half."""
    labels, logits = case
    right = (scipy.special.expit(logits) >= threshold) == labels
    accuracy, ranked = right.mean(), 0.5
    if 0 < accuracy < 1:
        ranked = sklearn.metrics.roc_auc_score(right, np.abs(logits - scipy.special.logit(threshold)))
    expected = (1 - ranked) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    assert abstention.augrc(labels, logits, threshold=threshold) == pytest.approx(expected, abs=1e-12)


def test_augrc_of_guesses_and_of_perfection() -> None:
    labels = np.arange(1000) % 2
    assert abstention.augrc(labels, np.ones(1000)) == pytest.approx(0.25)
    assert abstention.augrc(labels, labels - 0.5) == 0
    assert np.isnan(abstention.augrc(labels[:0], np.zeros(0)))


def test_risk_coverage_curve() -> None:
    labels, logits = simulated(500)
    curve = np.array(abstention.risk_coverage(labels, logits))
    confidence, wrong = np.abs(logits), (logits >= 0) != labels
    for coverage, risk in curve:
        decided = confidence >= np.quantile(confidence, 1 - coverage, method='inverted_cdf')
        surest = np.argsort(-confidence)[: round(500 * coverage)]
        assert risk == pytest.approx(wrong[surest].mean())
        assert decided.sum() >= len(surest)
    assert len(curve) == 200 and curve[-1].tolist() == [1, wrong.mean()]
    assert abstention.risk_coverage(np.array([1, 0, 0, 1]), np.array([2.0, 2.0, 1.0, 1.0])) == [[0.5, 0.5], [1, 0.5]]
    assert abstention.risk_coverage(labels[:0], logits[:0]) == []
