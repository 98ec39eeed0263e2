"""The model card: its header is one that the Hub takes, and its body says what the report says."""

import pathlib
from typing import Any

import huggingface_hub
import pytest

from fakeimg.evaluation import card
from tests.support import judged


@pytest.fixture(scope='module')
def metrics() -> dict:
    return judged.full(judged.predictions_of(judged.source(*map(str, range(200)))))


def _read(folder: pathlib.Path) -> Any:
    return huggingface_hub.ModelCard((folder / 'model_card.md').read_text())


def test_the_hub_reads_the_figures_back(metrics: dict, tmp_path: pathlib.Path) -> None:
    card.write_card(tmp_path / 'model_card.md', metrics)
    read = _read(tmp_path)
    results = {result.metric_type: result for result in read.data.eval_results or ()}
    assert read.data.model_name == 'cnn trained on CIFAKE'
    assert results['roc_auc'].metric_value == metrics['figures']['auc']['value']
    assert results['roc_auc'].metric_args['low'] == metrics['figures']['auc']['low']
    assert results['accuracy'].dataset_name == 'CIFAKE' and results['accuracy'].dataset_split == 'test'
    for said in ('## Intended use', '## Limits', '## Training data', '## Evaluation', '## How to reproduce',
                 'It learned from CIFAKE alone', 'fakeimg evaluate --workdir runs/x --split test',
                 '| accuracy | 91.0 % |', 'needs 2,995 real images'):  # fmt: skip
        assert said in read.text


def test_the_fewest_keys_and_one_class_are_enough(tmp_path: pathlib.Path) -> None:
    images = judged.source(*map(str, range(20)))
    predictions = judged.predictions_of(images).take(images.labels == 0)
    card.write_card(tmp_path / 'model_card.md', judged.least(predictions))
    read = _read(tmp_path)
    assert 'roc_auc' not in {result.metric_type for result in read.data.eval_results or ()}
    assert '| ROC AUC | undefined: only one class |' in read.text


def test_names_of_users_are_text(metrics: dict, tmp_path: pathlib.Path) -> None:
    evil = '<script>|`x` [a](b): "c"\n---\n# caf\udce9'
    found = {**metrics, 'split': evil, 'data': {'name': evil}, 'command': evil,
             'detector': {'model': evil, 'trained_on': evil}}  # fmt: skip
    card.write_card(tmp_path / 'model_card.md', found)
    text = (tmp_path / 'model_card.md').read_text()
    read = _read(tmp_path)
    assert read.data.eval_results and read.data.eval_results[0].dataset_name.startswith('<script>|`x` [a](b): "c" ---')
    body = read.text.split('```')
    assert all('<script>' not in part for part in (body[0], *body[2:]))
    assert text.count('\n---\n') == 1
