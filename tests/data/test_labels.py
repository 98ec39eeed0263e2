"""Labels that a run recorded, beside those that the user gives now."""

from fakeimg.data.labels import for_other_data, merged


def test_given_labels_win_over_recorded_ones() -> None:
    assert merged(['a=real', 'fake=b'], []) == ('a=real', 'fake=b')
    assert merged(['a=real', 'b=fake'], ['A=fake', 'c=real']) == ('b=fake', 'A=fake', 'c=real')
    assert merged(['a=real'], ['a=real']) == ('a=real',)


def test_numbers_mean_something_else_in_other_data() -> None:
    recorded = ['0=real', '1=fake', 'True=fake', 'edited=fake', 'real=originals']
    assert for_other_data(recorded, []) == ('edited=fake', 'real=originals')
    assert for_other_data(recorded, ['1=real', 'edited=real']) == ('real=originals', '1=real', 'edited=real')
