import numpy as np

from fakeimg.probing import sheets
from fakeimg.scoring import Predictions
from tests.support.judged import source


def test_images_stand_where_their_decisions_say() -> None:
    """The names say what each image is: real and fake by turns."""
    names = [f'{place}.jpg' for place in range(20)]
    split = source(*names)
    decisions = np.where(split.labels == 1, 1.0, -1.0) * np.arange(1, 21)
    decisions[[4, 7]] = [0.0, -0.5]  # a real image that is called fake, and a fake one that is called real
    section = sheets.section('linear SVM', 'test', Predictions(names, split.labels, decisions, 0), split)
    assert section.title == 'Images of test' and section.words[0].startswith('linear SVM has the best mean AUC')
    found = {sheet.title: [thumbnail.lines for thumbnail in sheet.thumbnails] for sheet in section.sheets}
    assert found['Wrong'] == [['fake, called real: -0.5', '7.jpg'], ['real, called fake: 0', '4.jpg']]
    assert [lines[1] for lines in found['Borderline']] == [f'{place}.jpg' for place in (4, 7, 0, 1, 2, 3)]
    assert found['Right'][0] == ['fake, called fake: 20', '19.jpg'] and len(found['Right']) == sheets.PER_SHEET
    assert all(len(thumbnail.uris) == 1 for sheet in section.sheets for thumbnail in sheet.thumbnails)


def test_no_image_may_be_wrong() -> None:
    split = source('a', 'b')
    section = sheets.section('SVM', 'test', Predictions(['a', 'b'], split.labels, np.array([-1.0, 1.0]), 0), split)
    assert [(sheet.words, len(sheet.thumbnails)) for sheet in section.sheets][0] == ('None.', 0)
