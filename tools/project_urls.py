"""The addresses of the repository in the metadata of the package: a hook of hatchling, called for each build.

They are made from the address of the clone, `git remote get-url origin`, as GitHub, GitLab and Forgejo have them. An
archive of the source that was built in a clone has them too. A build elsewhere has none.
"""

import re
import subprocess

from hatchling.metadata.plugin.interface import MetadataHookInterface

#: Below the address of a repository.
PATHS = {
    "Homepage": "",
    "Documentation": "/blob/HEAD/docs/index.md",
    "Changelog": "/blob/HEAD/CHANGELOG.md",
    "Source": "",
    "Issues": "/issues",
}
#: https://host/path.git, also with a user or a token, which are left out; ssh://git@host/path.git; git@host:path.git.
REMOTE = re.compile(r"(?:(?:https|ssh)://)?(?:[^@/]+@)?([\w.-]+)(?::\d+)?[:/]([\w./~-]+?)(?:\.git)?/?")


def make_urls(remote):
    """Return the addresses by their labels, none for a remote that is no server."""
    found = REMOTE.fullmatch(remote)
    if not found or remote.startswith((".", "/", "~")) or "." not in found[1]:
        return {}
    return {label: f"https://{found[1]}/{found[2]}{path}" for label, path in PATHS.items()}


class ProjectUrls(MetadataHookInterface):
    """Adds ``urls`` to the metadata."""

    def update(self, metadata):
        if "urls" in metadata:  # of an archive of the source, which hatchling has read from its PKG-INFO
            return
        try:
            command = ["git", "-C", self.root, "remote", "get-url", "origin"]
            remote = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            remote = ""
        metadata["urls"] = make_urls(remote)
