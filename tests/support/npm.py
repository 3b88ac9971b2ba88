"""The npm package of the browser client, and projects of Vite that import it."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.support.processes import run as run_program
from tests.support.requirements import find_program, skip_or_fail
from tests.support.site import ROOT

NODE_MODULES = ROOT / "node_modules"
run = partial(run_program, timeout=300)

VITE_CONFIG = """
export default {
  base: "/example/",
  logLevel: "warn",
  build: { modulePreload: { polyfill: false } },
};
"""


def require_node_modules():
    """Skip the test if the development dependencies of package.json are not installed; with REQUIRE_NPM=1 it fails.

    REQUIRE_SERVICES is not enough: whether npm can install them depends on a registry. .ci/run sets REQUIRE_NPM where
    it has installed them.
    """
    if not (NODE_MODULES / "vite").is_dir():
        skip_or_fail("The npm packages are not installed (npm install).", variable="REQUIRE_NPM")


class Package:
    """The package as ``npm run build`` and ``npm pack`` make it: once, for all processes of a run of tests."""

    def __init__(self):
        require_node_modules()
        self._made = Path(os.environ["TEST_DIR"]) / "npm"
        self._made.mkdir(exist_ok=True)
        self.folder = self._made / "package"
        with self._lock():
            if not (name := self._made / "archive").exists():
                run(find_program("node", package="nodejs"), "js/build.js", self.folder, cwd=ROOT)
                npm = find_program("npm", package="npm")
                packed = run(npm, "pack", "--silent", self.folder, cwd=self._made).split()[-1]
                name.write_text(packed)
        self.archive = self._made / name.read_text()

    def bundle(self, files):
        """Return a file name by URL path, of what Vite makes of a project with these files by name.

        ``index.html`` loads the first of them. The project has the package from its archive, and React and others from
        the repository.
        """
        text = json.dumps(files)
        with self._lock():
            if not (made := self._made / hashlib.sha256(text.encode()).hexdigest()).exists():
                made.write_text(json.dumps(self._bundle(files)))
        return json.loads(made.read_text())

    @contextmanager
    def _lock(self):
        with (self._made / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _bundle(self, files):
        (ROOT / "build").mkdir(exist_ok=True)
        # Below the repository, so that the project finds the repository's node_modules.
        project = Path(tempfile.mkdtemp(prefix="vite-", dir=ROOT / "build"))
        try:
            (project / "package.json").write_text('{"name": "example", "private": true, "type": "module"}')
            (project / "vite.config.js").write_text(VITE_CONFIG)
            (project / "index.html").write_text(
                f'<!doctype html><script type="module" src="/{next(iter(files))}"></script>'
            )
            for name, text in files.items():
                (project / name).write_text(text)
            npm = find_program("npm", package="npm")
            run(
                npm, "install", "--no-save", "--offline", "--no-audit", "--no-fund", self.archive, cwd=project
            )
            node = find_program("node", package="nodejs")
            run(node, NODE_MODULES / "vite/bin/vite.js", "build", cwd=project)
            scripts = sorted((project / "dist").rglob("*.js"))
            assert scripts
            return {
                f"/example/{script.relative_to(project / 'dist').as_posix()}": script.read_text()
                for script in scripts
            }
        finally:
            shutil.rmtree(project)
