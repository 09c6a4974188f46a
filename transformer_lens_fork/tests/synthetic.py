"""A tiny release of a package called transformer_lens, and commits for forks of it.

With it, download, checkout, export and all rules of `check` run for real, in a second, offline.
"""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

from transformer_lens_fork.bases import Base
from transformer_lens_fork.git import Repository
from transformer_lens_fork.history import commit_release
from transformer_lens_fork.sdist import cache_path

ROPE = "transformer_lens/rope.py"
LINES = [f"LINE_{number} = {number}" for number in range(1, 41)]
SUBJECT = "rope: form the angle from the inverse frequency"
REASON = "The model was trained with this very rounding."
TRAILERS = (
    "Bug: https://example.org/1",
    "Forwarded: no, it is synthetic",
    "Drop-when: upstream does the same",
)

# Its metadata needs no package from an index.
_BACKEND = """
import shutil, zipfile
from pathlib import Path

TAGS = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"

def prepare_metadata_for_build_wheel(folder, settings=None):
    info = Path(folder, "transformer_lens-9.9.9.dist-info")
    info.mkdir()
    shutil.copy("PKG-INFO", info / "METADATA")
    (info / "WHEEL").write_text(TAGS)
    return info.name

def build_wheel(folder, settings=None, metadata=None):
    name = "transformer_lens-9.9.9-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder, name), "w") as wheel:
        info = "transformer_lens-9.9.9.dist-info"
        wheel.writestr(f"{info}/METADATA", Path("PKG-INFO").read_text())
        wheel.writestr(f"{info}/WHEEL", TAGS)
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""

FILES = {
    ".gitignore": "*.log\nkept.txt\n",
    ".gitattributes": "*.py text eol=crlf diff=python\n",
    "PKG-INFO": "Metadata-Version: 2.1\nName: transformer-lens\nVersion: 9.9.9\n"
    "Requires-Dist: pytest>=7\n"
    "Requires-Dist: no-such-package>=1; extra == 'optional'\n",
    "README.md": "# A release\n",
    "backend.py": _BACKEND,
    "kept.txt": "Upstream's own .gitignore would leave this out.\n",
    "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'backend'\n"
    "backend-path = ['.']\n[tool.pytest.ini_options]\naddopts = '--no-such-plugin'\n",
    "tests/test_upstream.py": "def test_fine():\n    pass\n\n\n"
    "def test_needs_hub():\n    raise OSError('offline')\n",
    "transformer_lens/__init__.py": "from transformer_lens import rope as rope\n",
    ROPE: "\n".join([*LINES, ""]),
}


def make_tarball(path: Path, files: dict[str, str], top: str = "transformer_lens-9.9.9/") -> Path:
    """Writes a `.tar.gz` of `files` below the folder `top`."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{top}{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.getvalue(), mtime=0))
    return path


def pin(base: Base, tarball: Path, scratch: Path) -> Base:
    """`base` with the hash of its sdist, which goes into the cache, and the commit it becomes."""
    sha256 = hashlib.sha256(tarball.read_bytes()).hexdigest()
    cache_sdist(tarball, sha256)
    hashed = base.model_copy(update={"sdist_sha256": sha256})
    _, commit = commit_release(hashed, scratch / "tree")
    return hashed.model_copy(update={"base_commit": commit})


def cache_sdist(tarball: Path, sha256: str) -> None:
    """Puts a tarball where a download would leave it."""
    cached = cache_path() / "sdists" / sha256 / tarball.name
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(tarball.read_bytes())


def message(
    subject: str = SUBJECT, reason: str = REASON, trailers: tuple[str, ...] = TRAILERS
) -> str:
    """A commit message as `check` wants it, or with a part replaced."""
    return "\n\n".join(filter(None, [subject, reason, "\n".join(trailers)])) + "\n"


def commit(fork: Path, files: dict[str, str | None], text: str | None = None) -> str:
    """Writes `files` (None deletes one), commits everything, and returns the commit."""
    for name, content in files.items():
        path = fork / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
        else:
            path.write_text(content, encoding="utf-8")
    tree = Repository.at(fork)
    tree.run("add", "--all", "--force", ".")
    identity = {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (
            ("NAME", "Dévelopeuse"),
            ("EMAIL", "developer@example.org"),
            ("DATE", "2026-01-02T03:04:05+0100"),
        )
    }
    tree.run(
        "commit", "--quiet", "--file=-", stdin=(text or message()).encode(), variables=identity
    )
    return tree.text("rev-parse", "HEAD")


def rope(*changes: tuple[int, str]) -> str:
    """The content of `ROPE` with some lines replaced, counted from 1."""
    lines = list(LINES)
    for number, line in changes:
        lines[number - 1] = line
    return "\n".join([*lines, ""])
