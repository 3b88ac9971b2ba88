"""Folders and files that only their owner can read."""

import contextlib
import os


def make_private_folder(path):
    """Create a folder that only its owner can enter, or remove the access of others to an existing one."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def write_private_file(path, text, *, replace=True):
    """Write a file atomically, readable by its owner only. With replace=False an existing file is kept."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    if replace:
        temporary.replace(path)
    else:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        temporary.unlink()
