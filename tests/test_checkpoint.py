import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fakeimg.checkpoint import Checkpoints
from fakeimg.errors import UserError
from fakeimg.leaves import checksums, describe
from fakeimg.meta import FORMAT, Meta
from fakeimg.runtime import parallel

META = Meta(config={'x': 1}, labels={'real': 0, 'fake': 1}, preprocessing={'mean': [0.5]}, data_digest='0' * 64)


def state_of(step: int) -> dict:
    return {'step': jnp.asarray(step), 'params': {'w': jnp.full((300, 7), step, jnp.float32), 'b': jnp.ones(3)}}


def save_all(folder: pathlib.Path, aucs: dict[int, float | None]) -> None:
    checkpoints = Checkpoints(folder)
    for step, auc in aucs.items():
        metrics = None if auc is None else {'auc': auc, 'loss': 1.0}
        checkpoints.save(step, state_of(step), {'iterator': {'next_index': step}}, META, metrics)
    checkpoints.close()


def abstract(tree: dict) -> dict:
    return parallel.Devices.create('pmap', 2).abstract(tree)


def damage(folder: pathlib.Path) -> None:
    for path in folder.rglob('*'):
        if path.is_file() and path.parent.name == 'd':  # tensorstore's data files
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_last_two_and_best_are_kept(tmp_path: pathlib.Path) -> None:
    save_all(tmp_path, {1: 0.5, 2: 0.9, 3: None, 4: 0.7, 5: None, 6: 0.6})
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert checkpoints.steps() == [2, 5, 6]
    assert checkpoints.best_step() == 2


def test_state_iterator_and_meta_come_back_together(tmp_path: pathlib.Path) -> None:
    save_all(tmp_path, {4: 0.5})
    restored = Checkpoints(tmp_path, read_only=True).restore(abstract(state_of(0)))
    assert restored.step == 4
    assert restored.data == {'iterator': {'next_index': 4}}
    saved = dataclasses.replace(META, state_tree=describe(state_of(4)), checksums=checksums(state_of(4)))
    assert restored.meta == saved
    jax.tree.map(np.testing.assert_array_equal, restored.state, state_of(4))


def test_a_part_of_the_state_can_be_read_alone(tmp_path: pathlib.Path) -> None:
    save_all(tmp_path, {4: 0.5})
    restored = Checkpoints(tmp_path, read_only=True).restore(abstract({'params': state_of(0)['params']}))
    jax.tree.map(np.testing.assert_array_equal, restored.state, {'params': state_of(4)['params']})


def test_damaged_checkpoint_falls_back_and_says_so(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / 'checkpoints'
    save_all(folder, {4: 0.5, 8: 0.6})
    damage(folder / '8')
    checkpoints = Checkpoints(folder)
    restored = checkpoints.restore(abstract(state_of(0)))
    assert restored.step == 4
    assert 'checkpoint 8 is damaged' in restored.notes[0]
    jax.tree.map(np.testing.assert_array_equal, restored.state, state_of(4))
    checkpoints.set_aside_after(4)
    assert checkpoints.steps() == [4]
    assert len(list((tmp_path / 'damaged').iterdir())) == 1  # moved, not deleted
    checkpoints.save(8, state_of(8), {}, META)
    checkpoints.close()
    assert Checkpoints(folder).restore(abstract(state_of(0))).step == 8


def test_a_flipped_bit_is_damage_too(tmp_path: pathlib.Path) -> None:
    random = np.random.default_rng(0)
    state = {'params': {'w': random.normal(size=(64, 64)).astype(np.float32), 'n': np.arange(5)}}
    for step in (4, 8):
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(step, state, {}, META)
        checkpoints.close()
    (data,) = [path for path in (tmp_path / '8/state').rglob('*') if path.is_file() and path.stat().st_size > 4096]
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 8
    data.write_bytes(content)
    restored = Checkpoints(tmp_path).restore(abstract(state))
    assert restored.step == 4
    assert 'checkpoint 8 is damaged' in restored.notes[0]


@pytest.mark.parametrize('part', ['meta', 'data', 'state'])
def test_lost_parts_are_damage_too(tmp_path: pathlib.Path, part: str) -> None:
    save_all(tmp_path, {4: 0.5, 8: 0.6})
    for path in (tmp_path / '8' / part).rglob('*'):
        if path.is_file():
            path.write_bytes(b'')
    assert Checkpoints(tmp_path).restore(abstract(state_of(0))).step == 4


def test_nothing_readable_is_an_error(tmp_path: pathlib.Path) -> None:
    save_all(tmp_path, {4: 0.5})
    damage(tmp_path / '4')
    with pytest.raises(UserError, match='checkpoint 4 is damaged .*choose another'):
        Checkpoints(tmp_path).restore(abstract(state_of(0)))


def test_other_models_checkpoint_names_the_leaves(tmp_path: pathlib.Path) -> None:
    save_all(tmp_path, {4: 0.5})
    other = state_of(0)
    other['params'] = {'w': jnp.ones((300, 8)), 'c': jnp.ones(3)}
    with pytest.raises(UserError) as error:
        Checkpoints(tmp_path).restore(abstract(other))
    text = str(error.value)
    assert '3 leaves differ' in text
    assert 'params/w (float32[300,7] there, float32[300,8] here)' in text
    assert 'params/b (float32[3] there, absent here)' in text


def test_missing_checkpoints(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match='there are no checkpoints in .*train first'):
        Checkpoints(tmp_path / 'none', read_only=True)
    save_all(tmp_path, {4: 0.5})
    with pytest.raises(UserError, match=r'no checkpoint 5 in .* \(there are 4\)'):
        Checkpoints(tmp_path, read_only=True).restore(abstract(state_of(0)), 5)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='there are no checkpoints in .*train first'):
        Checkpoints(tmp_path / 'empty', read_only=True).read_meta()


def test_checkpoints_are_named_by_words_or_numbers(tmp_path: pathlib.Path) -> None:
    save_all(tmp_path, {1: 0.5, 2: 0.9, 3: 0.7})
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert [checkpoints.resolve(step) for step in ('best', 'latest', '3', 3)] == [2, None, 3, 3]
    for step in ('newest', '²', '-1', -1, ''):
        with pytest.raises(UserError, match=f'step is {step!r}; it must be best, latest, or the number of a checkp'):
            checkpoints.resolve(step)


def change_meta(folder: pathlib.Path, **fields: object) -> None:
    path = folder / 'meta/metadata'
    values = {name: value for name, value in (json.loads(path.read_text()) | fields).items() if value is not None}
    path.write_text(json.dumps(values))


def test_a_checkpoint_of_a_later_version_is_refused(tmp_path: pathlib.Path) -> None:
    save_all(tmp_path, {4: 0.5, 8: 0.6})
    change_meta(tmp_path / '8', format=FORMAT + 1, fakeimg='9.1.0', config=None)
    checkpoints = Checkpoints(tmp_path, read_only=True)
    sentence = r'checkpoint 8 in .* was written by a newer fakeimg .9\.1\.0.; update fakeimg\.'
    with pytest.raises(UserError, match=sentence):
        checkpoints.read_meta()
    with pytest.raises(UserError, match=sentence):  # rather than to fall back to the one before
        checkpoints.restore(abstract(state_of(0)))
    assert checkpoints.read_meta(4).config == {'x': 1}


def test_meta_of_older_and_newer_versions_loads(tmp_path: pathlib.Path) -> None:
    save_all(tmp_path, {4: 0.5})
    change_meta(tmp_path / '4', format=None, fakeimg='0.1.0', added_later='x')
    meta = Checkpoints(tmp_path, read_only=True).read_meta()
    assert (meta.fakeimg, meta.format, meta.config) == ('0.1.0', 1, {'x': 1})
    assert Meta.from_json(json.loads(json.dumps(META.to_json())), '') == META
