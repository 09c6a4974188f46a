"""Download, verification and unpacking, with pip for real and archives that attack."""

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from transformer_lens_fork import sdist
from transformer_lens_fork.bases import Base, load_bases
from transformer_lens_fork.errors import InputError, PinMismatchError, VerificationError
from transformer_lens_fork.sdist import CACHE_VARIABLE, fetch, is_cached, pristine_tree, unpack
from transformer_lens_fork.tests import synthetic


@pytest.fixture
def index(tarball: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only index, and an empty cache; the index has the tiny release."""
    folder = tmp_path / "index"
    folder.mkdir()
    shutil.copy(tarball, folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return folder


def test_download_is_kept(base: Base, index: Path) -> None:
    """The index is asked once; the second call needs none."""
    assert not is_cached(base)
    first = fetch(base)
    shutil.rmtree(index)
    assert fetch(base) == first
    assert is_cached(base)
    assert [path.name for path in first.parent.iterdir()] == [first.name]


@pytest.mark.usefixtures("index")
def test_corrupt_cache_is_downloaded_again(base: Base) -> None:
    """A damaged tarball in the cache is no error."""
    tarball = fetch(base)
    tarball.write_bytes(b"half a downl")
    assert not is_cached(base)
    fetch(base)
    assert is_cached(base)


def test_other_hash_on_index_is_refused(base: Base, index: Path) -> None:
    """What the index serves is compared with the pin, and both hashes are told."""
    synthetic.make_tarball(index / "transformer_lens-9.9.9.tar.gz", {"PKG-INFO": "evil"})
    with pytest.raises(PinMismatchError, match=f"has sha256 [0-9a-f]{{64}}, .*{base.sdist_sha256}"):
        fetch(base)
    assert not is_cached(base)


def test_build_backend_does_not_run_before_the_hash_is_checked(
    base: Base, index: Path, tmp_path: Path
) -> None:
    """An sdist with another hash gets no chance to run code."""
    proof = tmp_path / "ran"
    backend = f"open({str(proof)!r}, 'w')\n" + synthetic.FILES["backend.py"]
    files = synthetic.FILES | {"backend.py": backend}
    synthetic.make_tarball(index / "transformer_lens-9.9.9.tar.gz", files)
    with pytest.raises(PinMismatchError):
        fetch(base)
    assert not proof.exists()


def test_missing_release_is_told_in_pips_words(base: Base, index: Path) -> None:
    """A download that fails for another reason is not called a mismatch."""
    shutil.rmtree(index)
    index.mkdir()
    with pytest.raises(VerificationError, match=r"pip cannot download .* 9\.9\.9: .*No matching"):
        fetch(base)


def test_unwritable_cache_names_the_variable(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache that cannot be made is the user's input."""
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match=f"{CACHE_VARIABLE} accepts a writable folder"):
        fetch(base)


def test_pristine_tree_is_made_once_and_repaired(base: Base) -> None:
    """A tree somebody edited, or dropped a module into, is made anew."""
    tree = pristine_tree(base)
    assert (tree / synthetic.ROPE).read_text() == synthetic.FILES[synthetic.ROPE]
    inode = tree.stat().st_ino
    assert pristine_tree(base).stat().st_ino == inode
    for change in (synthetic.ROPE, "transformer_lens/stray.py"):
        (tree / change).write_text("edited = True\n")
        assert "edited" not in "".join(p.read_text() for p in pristine_tree(base).rglob("*.py"))
    (tree / synthetic.ROPE).unlink()
    assert (pristine_tree(base) / synthetic.ROPE).exists()


def test_byte_code_is_no_edit(base: Base) -> None:
    """Importing from the pristine tree does not make it another one."""
    tree = pristine_tree(base)
    inode = tree.stat().st_ino
    (tree / "transformer_lens" / "__pycache__").mkdir()
    (tree / "transformer_lens" / "__pycache__" / "rope.cpython-311.pyc").touch()
    assert pristine_tree(base).stat().st_ino == inode


@pytest.mark.parametrize("name", list(load_bases()))
def test_real_sdists_unpack(name: str) -> None:
    """Both real releases pass the rules for archives."""
    tree = pristine_tree(load_bases()[name])
    assert (tree / "transformer_lens" / "__init__.py").is_file()
    assert (tree / "PKG-INFO").is_file()


def member(name: str, **attributes: str | bytes | int) -> tarfile.TarInfo:
    """An entry of an archive."""
    info = tarfile.TarInfo(name)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., Path]:
    """Makes a tarball of the given members, all empty."""

    def make(*members: tarfile.TarInfo) -> Path:
        path = tmp_path / "evil.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for info in members:
                tar.addfile(info, io.BytesIO())
        return path

    return make


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (member("/etc/x"), "/etc/x is an absolute path"),
        (member("top/../../x"), r"climbs out with '\.\.'"),
        (member("top/.git/hooks/x"), "would be taken for git's own"),
        (member("other/x"), "one top-level folder is accepted, it has other, top"),
        (member("x"), "x is not inside a folder"),
        (member("top/l", type=tarfile.SYMTYPE, linkname="/etc"), "links out of the tree, to /etc"),
        (member("top/l", type=tarfile.SYMTYPE, linkname="../x"), r"links out of the tree"),
        (member("top/l", type=tarfile.SYMTYPE, linkname="../top2/x"), r"links out of the tree"),
        (member("top/l", type=tarfile.SYMTYPE, linkname=".."), r"links out of the tree, to \.\."),
        (member("top/a"), "top/a comes twice"),
        (member("top/a/b"), "top/a/b comes twice"),
        (member("top", type=tarfile.SYMTYPE, linkname="a"), "top/a is inside a symbolic link"),
        (member(".", type=tarfile.DIRTYPE), "is no name of a file"),
        (member("top/" + "d/" * 99 + "x"), "is nested deeper than 64 folders"),
        (member("top/\x1b[2J/../x"), r"'top/.x1b\[2J/\.\./x' climbs out"),
        (member("top/l", type=tarfile.LNKTYPE, linkname="top/a"), "neither a file, a folder nor"),
        (member("top/d", type=tarfile.CHRTYPE), "neither a file, a folder nor a symbolic link"),
        (member("top/p", type=tarfile.FIFOTYPE), "neither a file, a folder nor a symbolic link"),
    ],
)
def test_unsafe_member_is_refused(
    archive: Callable[..., Path], tmp_path: Path, bad: tarfile.TarInfo, says: str
) -> None:
    """Nothing is unpacked if one member could leave the folder."""
    path = archive(member("top/a"), bad)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(VerificationError, match=rf"evil\.tar\.gz is not unpacked: .*{says}"):
        unpack(path, tmp_path / "tree")
    assert sorted(tmp_path.rglob("*")) == before


def test_member_behind_a_link_is_refused(archive: Callable[..., Path], tmp_path: Path) -> None:
    """A link cannot redirect what comes after it."""
    link = member("top/l", type=tarfile.SYMTYPE, linkname=".")
    with pytest.raises(VerificationError, match="top/l/x is inside a symbolic link"):
        unpack(archive(link, member("top/l/x")), tmp_path / "tree")


def test_a_bomb_is_not_unpacked(archive: Callable[..., Path], tmp_path: Path) -> None:
    """What would fill the disk is refused before a byte is written, and so are too many files."""
    huge = member("top/a", size=2**40)
    path = tmp_path / "huge.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(huge)
    with pytest.raises(VerificationError, match="members of 1099511627776 bytes; 20000 members"):
        unpack(path, tmp_path / "tree")
    with pytest.raises(VerificationError, match="has 20001 members"):
        unpack(archive(*(member(f"top/{i}") for i in range(20_001))), tmp_path / "tree")


@pytest.mark.parametrize("kept", [0, 5, 20, 200])
def test_a_damaged_archive_is_refused(tarball: Path, tmp_path: Path, kept: int) -> None:
    """Empty, or cut anywhere."""
    path = tmp_path / "cut.tar.gz"
    path.write_bytes(tarball.read_bytes()[:kept])
    with pytest.raises(VerificationError, match=r"cut\.tar\.gz is not unpacked: [^\n]+\.$"):
        unpack(path, tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_modes_are_normalised(archive: Callable[..., Path], tmp_path: Path) -> None:
    """Only the owner's x bit survives, and a link inside the tree stays a link."""
    link = member("top/d/l", type=tarfile.SYMTYPE, linkname="../a")
    unpack(archive(member("top/a", mode=0o4777), member("top/b", mode=0o600), link), tmp_path / "t")
    modes = [(tmp_path / "t" / name).stat().st_mode & 0o7777 for name in "ab"]
    assert modes == [0o755, 0o644]
    assert (tmp_path / "t" / "d" / "l").is_symlink()


def test_interrupted_unpacking_leaves_nothing(
    tarball: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle leaves neither the tree nor its half."""

    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt(path)

    monkeypatch.setattr(sdist, "_normalise_mode", interrupt)
    with pytest.raises(KeyboardInterrupt):
        unpack(tarball, tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []
