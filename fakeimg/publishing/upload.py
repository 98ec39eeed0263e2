"""Sends a folder to the Hugging Face Hub as one commit."""

import pathlib

import huggingface_hub
from huggingface_hub import errors

import fakeimg
from fakeimg.errors import UserError
from fakeimg.pretrained import hub

_LOGIN = 'log in with "hf auth login", or set HF_TOKEN to a token that may write, and push again.'


def require_name(name: str) -> None:
    """Raises UserError for what cannot be the name of a model on the Hub."""
    if not hub.is_name(name) or '@' in name:
        raise UserError(f'{name} is no name of a model on the Hugging Face Hub; write OWNER/NAME.')


def require_login() -> None:
    """Raises UserError for what can be told before anything is written: no connection, no token."""
    try:
        hub.check_connection()
    except ConnectionError as error:
        raise _unreachable(error) from error
    if huggingface_hub.get_token() is None:
        raise UserError(f'no token of the Hugging Face Hub is known here; {_LOGIN}')


def upload(folder: pathlib.Path, name: str, *, private: bool) -> str:
    """Uploads every file of a folder; the repository is made if it does not exist.

    Args:
        folder: of a portable detector.
        name: OWNER/NAME.
        private: whether a repository that is made is private.

    Returns:
        The address of the commit.

    Raises:
        UserError: no connection, no such token, or one that may not write there.
    """
    message = f'Detector of fakeimg {fakeimg.__version__}'
    try:
        api = huggingface_hub.HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message=message))
    except Exception as error:  # its HTTP library may raise anything
        status = getattr(getattr(error, 'response', None), 'status_code', None)
        if status == 401 or isinstance(error, errors.LocalTokenNotFoundError):
            raise UserError(f'the Hugging Face Hub does not accept the token; {_LOGIN}') from error
        if status == 403:
            raise UserError(
                f'the token may not write to {name}; check the owner, or take a token that may write there.'
            ) from error
        if status is None:
            raise _unreachable(error) from error
        raise UserError(f'{name} could not be pushed ({hub.reason(error)}); try again, or check the name.') from error


def _unreachable(error: Exception) -> UserError:
    return UserError(
        f'the Hugging Face Hub cannot be reached ({hub.reason(error)}); check your connection, or write the folder '
        'without pushing it.'
    )
