"""What the Hub refuses is one sentence that says what to do."""

import pathlib
import types
from typing import Any

import huggingface_hub
import pytest

from fakeimg.errors import UserError
from fakeimg.pretrained import hub
from fakeimg.publishing import upload


class Refused(Exception):
    """An error as the HTTP library raises it, with the answer's status."""

    def __init__(self, status: int | None):
        super().__init__('Client Error.\nmore')
        if status is not None:
            self.response = types.SimpleNamespace(status_code=status)


def api(monkeypatch: pytest.MonkeyPatch, status: int | None) -> list[dict[str, Any]]:
    """Puts a Hub in place that refuses the upload with this status, 200 for none; returns what it is asked for."""
    asked: list[dict[str, Any]] = []

    class Api:
        def create_repo(self, name: str, **more: Any) -> None:
            asked.append({'name': name, **more})

        def upload_folder(self, **more: Any) -> str:
            asked.append(more)
            if status != 200:
                raise Refused(status)
            return 'https://huggingface.co/me/faces/commit/1'

    monkeypatch.setattr(huggingface_hub, 'HfApi', Api)
    return asked


def test_the_folder_is_one_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    asked = api(monkeypatch, 200)
    assert upload.upload(tmp_path, 'me/faces', private=True) == 'https://huggingface.co/me/faces/commit/1'
    assert asked[0] == {'name': 'me/faces', 'private': True, 'exist_ok': True}
    assert (asked[1]['repo_id'], asked[1]['folder_path']) == ('me/faces', tmp_path)


@pytest.mark.parametrize(
    ('status', 'sentence'),
    [
        (401, 'the Hugging Face Hub does not accept the token; log in with "hf auth login", or set HF_TOKEN'),
        (403, 'the token may not write to me/faces; check the owner'),
        (500, 'me/faces could not be pushed (Refused: Client Error); try again'),
        (None, 'the Hugging Face Hub cannot be reached (Refused: Client Error); check your connection, or write the'),
    ],
)
def test_a_refusal_is_one_sentence(
    status: int | None, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    api(monkeypatch, status)
    with pytest.raises(UserError) as refused:
        upload.upload(tmp_path, 'me/faces', private=False)
    assert str(refused.value).startswith(sentence) and '\n' not in str(refused.value)


def test_what_can_be_told_before_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> None:
        raise ConnectionError('huggingface.co cannot be reached: no answer')

    monkeypatch.setattr(huggingface_hub, 'get_token', lambda: None)
    for name in ('faces', 'me/faces@v1', 'a/b/c'):
        with pytest.raises(UserError, match='is no name of a model on the Hugging Face Hub; write OWNER/NAME'):
            upload.require_name(name)
    upload.require_name('me/faces')
    monkeypatch.setattr(hub, 'check_connection', unreachable)
    with pytest.raises(UserError, match='cannot be reached .* check your connection'):
        upload.require_login()
    monkeypatch.setattr(hub, 'check_connection', lambda: None)
    with pytest.raises(UserError, match='no token of the Hugging Face Hub is known here; log in with "hf auth login"'):
        upload.require_login()
    monkeypatch.setattr(huggingface_hub, 'get_token', lambda: 'hf_x')
    upload.require_login()
